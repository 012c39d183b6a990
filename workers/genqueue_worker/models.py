"""`genqueue models`."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Final

import click

from genqueue_worker.providers.catalog import list_models
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.runtime import make_provider
from genqueue_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Sequence

    from genqueue_worker.providers.catalog import Model

#: Seconds the endpoint has for each answer.
PATIENCE: Final = 10.0

#: Statuses with which the provider refuses a key; Gemini says 400 of a key it does not know.
_REFUSED: Final = frozenset({400, 401, 403})

_COLUMNS: Final = ("name", "display name", "input", "output", "thinking", "methods")


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
def models(*, as_json: bool) -> None:
    """List the provider's models: name, limits of input and output in tokens, thinking, methods."""
    settings = WorkerSettings.load()
    _, route = make_provider(settings)
    try:
        found = asyncio.run(list_models(route, PATIENCE))
    except ProviderError as error:
        advice = "check GENQUEUE_GEMINI_API_KEY" if error.status in _REFUSED else "genqueue doctor says what is wrong"
        told = str(error).replace(route.api_key, "***") if route.api_key else str(error)
        raise click.ClickException(f"{route.base_url}: {told}; {advice}") from error
    if as_json:
        click.echo(json.dumps([document(model) for model in found], ensure_ascii=False))
    else:
        for line in table(found):
            click.echo(line)


def document(model: Model) -> dict[str, object]:
    """Return a model as `--json` prints it."""
    return {
        "name": name_of(model),
        "display_name": model.display_name,
        "input_token_limit": model.input_token_limit,
        "output_token_limit": model.output_token_limit,
        "thinking": model.thinking,
        "methods": list(model.supported_generation_methods),
    }


def table(found: Sequence[Model]) -> list[str]:
    """Return models as lines, with a head, columns aligned."""
    rows = [_COLUMNS, *(_row(model) for model in found)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(_COLUMNS))]
    numbers = {_COLUMNS.index("input"), _COLUMNS.index("output")}
    return [
        "  ".join(
            cell.rjust(width) if column in numbers else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row(model: Model) -> tuple[str, ...]:
    limits = (f"{limit:,}" if limit else "-" for limit in (model.input_token_limit, model.output_token_limit))
    thinking = "yes" if model.thinking else "no"
    return (name_of(model), model.display_name, *limits, thinking, ", ".join(model.supported_generation_methods))


def name_of(model: Model) -> str:
    """Return a model's name as `--model` takes it."""
    return model.name.removeprefix("models/")
