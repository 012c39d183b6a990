"""`genqueue models`."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import click

from genqueue_worker.model_file import read_table
from genqueue_worker.model_table import NEEDED
from genqueue_worker.providers.catalog import list_models
from genqueue_worker.providers.errors import REFUSED_STATUSES, ProviderError
from genqueue_worker.routes import make_routes
from genqueue_worker.settings import WorkerSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from genqueue_worker.model_table import ModelTable
    from genqueue_worker.providers.catalog import Model
    from genqueue_worker.providers.seam import Kind, Route

#: Seconds an endpoint has for each answer.
PATIENCE: Final = 10.0

_LINES: Final = ("alias", "model", "provider", "fallbacks")
_COLUMNS: Final = ("provider", "name", "display name", "input", "output", "thinking", "methods")
_NUMBERS: Final = frozenset({"input", "output"})


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the model table: what a job says, and what is asked.

    Attributes:
        alias: what the job says instead of the model; "" for none.
        model: its name, or a pattern of names.
        fallbacks: models asked when it cannot answer, in order.
    """

    alias: str
    model: str
    provider: Kind
    fallbacks: tuple[str, ...] = ()


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@click.pass_context
def models(ctx: click.Context, /, *, as_json: bool) -> None:
    """List the model table, and the models each provider lists.

    The table says what jobs may ask for: aliases, who serves which models, and fallbacks; GENQUEUE_MODELS_FILE adds to
    it. The exit status is 1 when a provider gives no list.
    """
    settings = WorkerSettings.load()
    routes = make_routes(settings)
    lines = list(lines_of(read_table(settings.models_file, routes)))
    found, problems = asyncio.run(listed(routes))
    if as_json:
        click.echo(json.dumps(document(lines, found, problems), ensure_ascii=False))
    else:
        show(lines, found)
    for problem in problems.values():
        click.echo(f"error: {problem}", err=True)
    ctx.exit(1 if problems else 0)


async def listed(routes: Mapping[Kind, Route]) -> tuple[dict[Kind, list[Model]], dict[Kind, str]]:
    """Return the models that each provider lists, and why one lists none."""
    answers = await asyncio.gather(*(list_models(route, PATIENCE) for route in routes.values()), return_exceptions=True)
    found: dict[Kind, list[Model]] = {}
    problems: dict[Kind, str] = {}
    for (kind, route), answer in zip(routes.items(), answers, strict=True):
        if isinstance(answer, ProviderError):
            problems[kind] = _problem(kind, route, answer)
        elif isinstance(answer, BaseException):
            raise answer
        else:
            found[kind] = answer
    return found, problems


def lines_of(table: ModelTable) -> Iterator[Line]:
    """Yield what a table says of the providers that are configured: aliases, fallbacks, patterns."""
    fallbacks, aliases = table.entries.fallbacks, table.entries.aliases
    for alias in sorted(aliases):
        model = table.meant(alias)
        yield from _line(table, alias, model)
    for model in sorted(set(fallbacks) - {table.meant(alias) for alias in aliases}):
        yield from _line(table, "", model)
    for pattern, kind in table.entries.models.items():
        if kind in table.configured:
            yield Line("", pattern, kind)


def _line(table: ModelTable, alias: str, model: str) -> Iterator[Line]:
    kind = table.served_by(model)
    if kind is not None and kind in table.configured:
        yield Line(alias, model, kind, tuple(choice.name for choice in table.chain(model)[1:]))


def _problem(kind: Kind, route: Route, error: ProviderError) -> str:
    advice = f"check {NEEDED[kind]}" if error.status in REFUSED_STATUSES else "genqueue doctor says what is wrong"
    told = str(error).replace(route.api_key, "***") if route.api_key else str(error)
    return f"{route.base_url}: {told}; {advice}"


def document(
    lines: Sequence[Line], found: Mapping[Kind, Sequence[Model]], problems: Mapping[Kind, str]
) -> dict[str, object]:
    """Return what `--json` prints."""
    table = [
        {"alias": line.alias or None, "model": line.model, "provider": line.provider, "fallbacks": line.fallbacks}
        for line in lines
    ]
    every = [entry(kind, model) for kind, models in found.items() for model in models]
    return {"table": table, "models": every, "problems": problems}


def entry(kind: Kind, model: Model) -> dict[str, object]:
    """Return a model as `--json` prints it."""
    return {
        "provider": kind,
        "name": name_of(model),
        "display_name": model.display_name,
        "input_token_limit": model.input_token_limit,
        "output_token_limit": model.output_token_limit,
        "thinking": model.thinking,
        "methods": list(model.supported_generation_methods),
    }


def show(lines: Sequence[Line], found: Mapping[Kind, Sequence[Model]]) -> None:
    """Print both tables."""
    cells = [(line.alias or "-", line.model, line.provider, ", ".join(line.fallbacks) or "-") for line in lines]
    every = [_row(kind, model) for kind, models in found.items() for model in models]
    for row in [*aligned(_LINES, cells), "", *aligned(_COLUMNS, every)]:
        click.echo(row)


def aligned(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Return a table as lines, with its head, columns aligned."""
    widths = [max(len(row[column]) for row in (head, *rows)) for column in range(len(head))]
    return [
        "  ".join(
            cell.rjust(width) if name in _NUMBERS else cell.ljust(width)
            for cell, width, name in zip(row, widths, head, strict=True)
        ).rstrip()
        for row in (head, *rows)
    ]


def _row(kind: Kind, model: Model) -> tuple[str, ...]:
    limits = (f"{limit:,}" if limit else "-" for limit in (model.input_token_limit, model.output_token_limit))
    methods = ", ".join(model.supported_generation_methods) or "-"
    return kind, name_of(model), model.display_name or "-", *limits, "yes" if model.thinking else "no", methods


def name_of(model: Model) -> str:
    """Return a model's name as `--model` takes it."""
    return model.name.removeprefix("publishers/google/").removeprefix("models/")
