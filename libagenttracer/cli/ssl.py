"""`ssl`: TLS plaintext of live processes."""

from __future__ import annotations

import sys
from typing import Any, Literal

import click

from ..analyzers import EndpointFilter
from ..outputs import Har
from ..runners.runner import Runner
from ..runners.ssl import DEFAULT_RING_BYTES, SslRunner
from ..system.launch import caller
from .chain import decode_options, make_stages, stage_options
from .live import check_times, run_live
from .options import USER_ID, make_output, output_options, run_options, set_verbosity

__all__ = ["ssl_command"]

EPILOG = """\b
Examples:
  libagenttracer ssl -- curl https://example.org     run a command and show what it says
  libagenttracer ssl -p 4242 -f                      a process and its descendants
  libagenttracer ssl -c python,node -o trace.jsonl   all processes of these names, into a file
  libagenttracer ssl --llm -- claude -p hello        prompts, answers, tool calls and tokens
  libagenttracer ssl --http --filter 'http.status >= 400' -c node
  libagenttracer ssl --host 'api.*' --port 443 -f -p 4242   only what goes there
  libagenttracer ssl | jq .data.payload              everything, as JSON Lines

\b
Without --http, --sse-merge, --llm or --mcp, the plaintext is shown as it is, not redacted. With
them, secrets are replaced by fingerprints. Expressions are explained in docs/filters.md.

\b
Exit status: the command's, if one was given; else 0, 1 after an error, 2 for wrong usage.
"""


@click.command("ssl", epilog=EPILOG, context_settings={"ignore_unknown_options": False})
@click.option(
    "-p", "--pid", "pids", type=click.IntRange(1), multiple=True, help="Only this process (repeatable)."
)
@click.option("-c", "--comm", help="Only processes whose first thread has one of these names (NAME,NAME).")
@click.option("-u", "--uid", type=USER_ID, help="Only processes of this user (number or name).")
@click.option("-f", "--follow-forks", is_flag=True, help="Descendants of matching processes too.")
@decode_options
@stage_options
@click.option("--har", metavar="FILE", help="Write the exchanges there as HAR 1.2 too (with --http).")
@click.option("--handshake", is_flag=True, help="Show handshakes too.")
@click.option(
    "--port", "ports", type=click.IntRange(1, 65535), multiple=True, help="Only connections with this port."
)
@click.option(
    "--host", "hosts", multiple=True, help="Only connections to this name or address ('*.example')."
)
@click.option(
    "--attach",
    type=click.Choice(["matched", "all"]),
    help="Probe only what matching processes map, or the system's libraries too, for those that start later. "
    "[default: all, unless COMMAND is given]",
)
@click.option(
    "--lib",
    "libraries",
    multiple=True,
    metavar="PATH",
    help="Probe this library or executable, not those found (repeatable).",
)
@output_options
@run_options(ring_bytes=DEFAULT_RING_BYTES, nice=-10)
def ssl_command(
    pids: tuple[int, ...],
    comm: str | None,
    uid: int | None,
    follow_forks: bool,
    handshake: bool,
    ports: tuple[int, ...],
    hosts: tuple[str, ...],
    attach: Literal["matched", "all"] | None,
    libraries: tuple[str, ...],
    har: str | None,
    for_s: float | None,
    ring_size: int,
    nice: int,
    user: str | None,
    quiet: bool,
    verbose: int,
    command: tuple[str, ...],
    **options: Any,
) -> int:
    """Show what processes send and receive inside TLS.

    With no filter, every process is traced. With -- COMMAND, the command is started and traced with its
    descendants from the first byte on. Which TLS stacks can be read: docs/tls.md. If nothing is shown of a
    process, "libagenttracer doctor" says why.
    """
    set_verbosity(verbose)
    check_times(for_s)
    stages, made = make_stages(options)
    if not all(host.strip() for host in hosts):
        raise click.UsageError("an empty name can match no host")
    endpoints = EndpointFilter(ports, hosts) if ports or hosts else None
    if har and not stages.http:
        raise click.UsageError("--har goes with --http")
    if user and not command:
        raise click.UsageError("--as goes with -- COMMAND")
    try:
        runner = SslRunner(
            pid=pids or None,
            comm=comm,
            uid=uid,
            follow_forks=follow_forks,
            command=command or None,
            user=user or (caller() if command else None),
            libraries=libraries or None,
            attach=attach,
            progress=None if quiet else _say,
            handshake=handshake,
            closes=True,  # so that a recording, decoded later, gives what it would have given now
            ring_bytes=ring_size,
            analyzers=[*([endpoints] if endpoints else ()), *stages.analyzers],
        )
    except ValueError as error:
        raise click.UsageError(str(error)) from error
    runner.add_output(make_output(**made))
    if har:
        runner.add_output(Har(har))
    stages.warn()
    announce = None if command else _announcement
    notes = (lambda: _endpoint_notes(endpoints) + stages.notes()) if endpoints else stages.notes
    return run_live(runner, for_s, nice, quiet=quiet, announce=announce, notes=notes)


def _say(text: str) -> None:
    print(f"libagenttracer: {text}", file=sys.stderr, flush=True)


def _endpoint_notes(endpoints: EndpointFilter) -> list[str]:
    if not endpoints.filtered:
        return []
    unknown = f", {endpoints.unknown} as it is not known where they went" if endpoints.unknown else ""
    return [f"events left out by --port or --host: {endpoints.filtered}{unknown}"]


def _announcement(runner: Runner) -> str:
    probed = [item.path for item in runner.stats.libraries if not item.problem]
    return ", ".join(probed) or "no library yet"
