"""The group of commands, and how their errors end: one line on stderr, and a status that says so."""

from __future__ import annotations

import logging
import os
import sys

import click

from .. import __version__
from ..errors import AgentTracerError, BindingError, CommandError, OutputClosed
from .doctor import doctor_command
from .process import process_command
from .replay import replay_command
from .schema import schema_command
from .ssl import ssl_command

__all__ = ["main"]

EXIT_FAILED = 1


@click.group(
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog='Shell completion: eval "$(_LIBAGENTTRACER_COMPLETE=bash_source libagenttracer)"  (or zsh, fish)',
)
@click.version_option(__version__, prog_name="libagenttracer")
def cli() -> None:
    """Watch AI agents from outside, with eBPF: what they say inside TLS and what they do."""


cli.add_command(ssl_command)
cli.add_command(process_command)
cli.add_command(doctor_command)
cli.add_command(replay_command)
cli.add_command(schema_command)


def main(arguments: list[str] | None = None) -> int:  # noqa: PLR0911  # one for each kind of end
    """Runs the command line; returns the exit status."""
    logging.basicConfig(stream=sys.stderr, format="libagenttracer: %(message)s", level=logging.WARNING)
    try:
        result = cli.main(arguments, prog_name="libagenttracer", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Exit as end:
        return end.exit_code
    except click.Abort:
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (OutputClosed, BrokenPipeError):
        _forget_stdout()
        return 0
    except AgentTracerError as error:
        _complain(error)
        if isinstance(error, BindingError) and error.log:
            logging.getLogger("libagenttracer").info("%s", error.log)
        return error.status if isinstance(error, CommandError) else EXIT_FAILED
    except OSError as error:
        _complain(error)
        return EXIT_FAILED


def _complain(error: Exception) -> None:
    if sys.stderr is not None:  # print() would take None for standard output
        print(f"libagenttracer: {error}", file=sys.stderr)


def _forget_stdout() -> None:
    """Nobody reads stdout any more: keep Python from complaining when it flushes at exit."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
