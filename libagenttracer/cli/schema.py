"""`schema`: the JSON Schema of the output."""

from __future__ import annotations

import click
import msgspec

from ..events import json_schema

__all__ = ["schema_command"]


@click.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of an output line."""
    click.echo(msgspec.json.format(msgspec.json.encode(json_schema()), indent=2).decode())
