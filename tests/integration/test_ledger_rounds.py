"""Random rounds of trouble against the ledger, and proof that they notice a mechanism that is missing."""

from __future__ import annotations

import os
from collections import Counter
from typing import TYPE_CHECKING

import pytest

from .ledger_rounds.model import Violation
from .ledger_rounds.mutations import MUTATIONS
from .ledger_rounds.round import Round

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genqueue.scripts import Script

    from .ledger_rounds.link import Link
    from .ledger_rounds.mutations import Mutation

#: Rounds of a run; each is the same in every run.
ROUNDS = int(os.environ.get("GENQUEUE_TEST_ROUNDS", "500"))
#: The only round to run, to look at a failure.
SEED = os.environ.get("GENQUEUE_TEST_SEED")
#: Rounds within which a missing mechanism must be noticed; most take fewer than ten.
CONTROL_ROUNDS = 300
#: Rounds from which on everything in REACHED must have happened.
MANY = 500
REACHED = {
    *("submit new", "submit joined", "submit cached", "submit dup", "submit late", "submit full", "lift"),
    *("claim ok", "claim gone", "claim done", "claim leased", "claim spent", "claim late", "claim suspect"),
    *("resumed", "broken off", "retry too late", "settle dead", "history", "replayed from"),
    *("append ok", "append gap", "append refused", "renew ok", "renew refused"),
    *("settle succeeded", "settle failed", "settle cancelled", "settle waiting", "settle queued"),
    *("settle already", "settle gap", "settle refused", "settle gone"),
    *("leave ended", "leave left", "leave already", "leave done", "leave gone", "leave early"),
    *("expired by its reader: ended", "expired by its reader: left", "revoke ended", "revoke done", "revoke gone"),
    *("sweep lost", "sweep due", "sweep unheard", "sweep dead", "drop dropped", "drop not_dead"),
    *("called off by submit", "called off by leave", "called off by sweep", "called off by revoke"),
    *("called off by purge", "outage", "forgiven"),
    *("ring delivered", "ring old", "ring out of step", "ring without fields", "ring dropped"),
    *("collect taken", "told completed", "told failed", "told cancelled", "told expired"),
    *("report delivered noted", "report delivered refused", "report failed noted", "report failed refused"),
    *("purge erased", "purge shared", "purge gone", "purge cut off"),
    *("request of failed kept", "request of failed dropped", "request of succeeded dropped"),
    *("end completed", "end failed", "end cancelled", "end expired", "end left"),
}


def run_rounds(link: Link, prefix: str, scripts: Mapping[str, Script], first: int) -> None:
    """Run rounds with edited scripts until one raises Violation, the `first` before all others."""
    for seed in (first, *range(CONTROL_ROUNDS)):
        Round(link, prefix, seed, Counter(), scripts).run()


@pytest.mark.timeout(3600)
def test_no_trouble_breaks_a_promise(link: Link, prefix: str) -> None:
    """Crashes, losses, doubles, replays, delays and dropped rings leave every stream whole and every job ended once."""
    seen: Counter[str] = Counter()
    seeds = [int(SEED)] if SEED else range(ROUNDS)
    for seed in seeds:
        try:
            Round(link, prefix, seed, seen, {}).run()
        except Violation as violation:
            again = f"GENQUEUE_TEST_SEED={seed} python -m pytest {os.path.relpath(__file__)} -k promise"
            pytest.fail(f"round {seed}: {violation}\nagain with: {again}")
    assert len(seeds) < MANY or not REACHED - set(seen), "the rounds no longer reach all they must prove"


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name.replace(" ", "-"))
def test_a_missing_mechanism_is_noticed(link: Link, prefix: str, mutation: Mutation) -> None:
    """The rounds fail as soon as one mechanism of the scripts is switched off."""
    scripts = mutation.scripts()
    assert scripts, f"no script contains {mutation.old!r} any more: change the mutation with it"
    with pytest.raises(Violation):
        run_rounds(link, prefix, scripts, mutation.seed)
