"""The command that runs the emulator in the foreground."""

from __future__ import annotations

import errno
import os
import sys
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import uvloop

from genqueue_lab.emulator.faults import KINDS, Rule
from genqueue_lab.emulator.options import Options, Pace
from genqueue_lab.emulator.quotas import Quota
from genqueue_lab.emulator.server import run

if TYPE_CHECKING:
    from genqueue_lab.emulator.server import Emulator

_FILE = click.Path(dir_okay=False, path_type=Path)
_DIRECTORY = click.Path(file_okay=False, path_type=Path)
_SECONDS = click.FloatRange(0, 3600)
_COUNT = click.IntRange(1, 100_000)
_LIMIT = click.IntRange(1, 100_000_000)
_PACE = Pace()
_QUOTA = Quota()

_FAULTS = "\n".join(
    textwrap.fill(f"{kind}: {what}", 96, initial_indent="  ", subsequent_indent="    ") for kind, what in KINDS.items()
)
_HELP = f"""Run Gemini's Developer API, Vertex AI and OpenAI's chat completions on this machine, over TLS, HTTP/2 and
HTTP/1.1.

\b
Pace: also for one request, by header fields x-emulator-ttft, -tpot, -tokens, ...;
  POST /emulator/settings changes it.
Quotas: requests too many for a key and a model get 429 with QuotaFailure and RetryInfo, as
  Google sends them; POST /emulator/quotas changes them.

\b
Faults: --fault KIND;NAME=VALUE;... (repeatable), also as header field x-emulator-fault of one
  request; POST /emulator/faults adds rules (JSON), GET shows them with counts, DELETE
  (?id=N) takes them away. Of the rules that match a request the first strikes.
  match, model: text in the prompt, the model; after: chunks before it strikes (0);
  times, each: requests in all, and of each prompt, that it strikes; share (1), seed.
{_FAULTS}

\b
Vertex AI: POST /emulator/accounts gives the JSON key of a new service account, which signs in at /token
  as at Google (with {{"kind": "authorized_user"}} a user's credentials); POST /emulator/tokens changes
  lifetime, refuse and hold; DELETE takes all tokens back.

\b
Statistics: GET /emulator/stats?details=0, with &prompts=1 the calls of each prompt.

\b
Examples:
  genqueue emulator --rpm 15 --window sliding
  genqueue emulator --fault 'reset;after=3;share=0.1' --fault 'status;status=503;each=1'
  curl -H 'x-emulator-fault: stall;after=2;seconds=30' ...
"""


def _rules(_context: click.Context, parameter: click.Parameter, values: tuple[str, ...]) -> tuple[Rule, ...]:
    try:
        return tuple(Rule.parse(value) for value in values)
    except ValueError as error:
        raise click.BadParameter(str(error), param=parameter) from error


@click.command(help=_HELP)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option("--port", default=8443, show_default=True, type=click.IntRange(0, 65535), help="0 takes a free one.")
@click.option("--ttft", default=_PACE.ttft, show_default=True, type=_SECONDS, help="Seconds to the first chunk.")
@click.option("--tpot", default=_PACE.tpot, show_default=True, type=_SECONDS, help="Seconds between two tokens.")
@click.option("--tokens", default=_PACE.tokens, show_default=True, type=_COUNT, help="Tokens of an answer.")
@click.option("--tokens-per-chunk", default=1, show_default=True, type=_COUNT, help="Tokens sent together.")
@click.option("--thoughts", default=_PACE.thoughts, show_default=True, type=_COUNT, help="Tokens of a thought.")
@click.option("--processing", default=_PACE.processing, show_default=True, type=_SECONDS, help="Until a file is ready.")
@click.option("--max-streams", default=100, show_default=True, type=_COUNT, help="Streams on one HTTP/2 connection.")
@click.option("--rpm", type=_LIMIT, help="Requests per minute of a key on a model; no limit when not given.")
@click.option("--rpd", type=_LIMIT, help="Requests per day of a key on a model, from midnight in California.")
@click.option(
    "--window",
    type=click.Choice(["fixed", "sliding"]),
    default=_QUOTA.window,
    show_default=True,
    help="How a minute is counted.",
)
@click.option(
    "--minute", default=_QUOTA.minute, show_default=True, type=click.FloatRange(0.05, 3600), help="Seconds of a minute."
)
@click.option("--fault", "faults", multiple=True, metavar="RULE", callback=_rules, help="A fault; see above.")
@click.option("--api-key", help='The only key accepted; any but "wrong..." and "invalid..." when not given.')
@click.option("--directory", default=".genqueue/emulator", show_default=True, type=_DIRECTORY, help="For certificates.")
@click.option("--ready-file", type=_FILE, help="Written when connections are accepted: url, ca_file, pid as JSON.")
def emulator(**given: Any) -> None:  # noqa: D103 - its text is in _HELP
    pace = {name: given.pop(name) for name in Pace.__struct_fields__}
    quota = {name: given.pop(name) for name in Quota.__struct_fields__}
    options = Options(max_concurrent_streams=given.pop("max_streams"), pace=Pace(**pace), quota=Quota(**quota), **given)
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
    print(f"  export SSL_CERT_FILE={running.ca_file}")
    print("For openai, further:")
    print(f"  export OPENAI_API_KEY={key}")
    print(f"  export OPENAI_BASE_URL={running.url}/v1", flush=True)
