"""The command that runs the emulator in the foreground."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import uvloop

from genqueue_lab.emulator.options import Options, Pace
from genqueue_lab.emulator.server import run

if TYPE_CHECKING:
    from genqueue_lab.emulator.server import Emulator

_FILE = click.Path(dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(file_okay=False, path_type=Path)
_SECONDS = click.FloatRange(0, 3600)
_COUNT = click.IntRange(1, 100_000)
_PACE = Pace()


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8443, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--ttft", default=_PACE.ttft, show_default=True, type=_SECONDS, help="Seconds to the first chunk.")
@click.option("--tpot", default=_PACE.tpot, show_default=True, type=_SECONDS, help="Seconds between two tokens.")
@click.option("--tokens", default=_PACE.tokens, show_default=True, type=_COUNT, help="Tokens of an answer.")
@click.option("--tokens-per-chunk", default=1, show_default=True, type=_COUNT, help="Tokens sent together.")
@click.option("--thoughts", default=_PACE.thoughts, show_default=True, type=_COUNT, help="Tokens of a thought.")
@click.option("--processing", default=_PACE.processing, show_default=True, type=_SECONDS, help="Until a file is ready.")
@click.option("--max-streams", default=100, show_default=True, type=_COUNT, help="Streams on one HTTP/2 connection.")
@click.option("--api-key", help='The only key accepted; any but "wrong..." and "invalid..." when not given.')
@click.option("--directory", default=".genqueue/emulator", show_default=True, type=_DIRECTORY, help="For certificates.")
@click.option("--ready-file", type=_FILE, help="Written when connections are accepted: url, ca_file, pid as JSON.")
def emulator(**given: Any) -> None:
    """Run Gemini's Developer API on this machine, over TLS and HTTP/2."""
    pace = {name: given.pop(name) for name in Pace.__struct_fields__}
    options = Options(max_concurrent_streams=given.pop("max_streams"), pace=Pace(**pace), **given)
    try:
        uvloop.run(run(options, _announce))
    except OSError as error:
        what = f"use {error.filename}" if error.filename else f"listen on {options.host}:{options.port}"
        reason = os.strerror(error.errno or 0) if error.errno in errno.errorcode else str(error)
        print(f"Error: cannot {what}: {reason}", file=sys.stderr)
        sys.exit(1)


def _announce(running: Emulator) -> None:
    key = running.options.api_key or "emulator"
    print(f"Gemini emulator on {running.url} (Ctrl-C stops it); CA certificate {running.ca_file}")
    print("For google-genai and curl:")
    print(f"  export GEMINI_API_KEY={key}")
    print(f"  export GOOGLE_GEMINI_BASE_URL={running.url}")
    print(f"  export SSL_CERT_FILE={running.ca_file}", flush=True)
