"""Short memory: answers kept for equal questions go first, then low work, then normal; and calls that stay small."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from genqueue import ledger
from genqueue.ledger.entries import SLICE_COUNT, SLICE_SIZE
from genqueue_lab.servers import RedisServer

from .ledger_desk import POLICY, Desk
from .ledger_rounds.link import Link

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Percent of the memory used that lie in the middle of each level above the mark of 85.
LEVELS = (87.5, 92.5, 97.5)
#: More than Lua takes as arguments of one call.
MANY = 12_000


@pytest.fixture(scope="module")
def full(server: RedisServer) -> Iterator[Link]:
    """Make a server whose memory may be limited, holding so much that what a test adds is little."""
    with RedisServer(server.binary) as limited, Link(limited.url()) as link:
        link.command("SETRANGE", "ballast", 50_000_000, "x")
        link.listen("*")
        yield link


@pytest.fixture
def desk(full: Link, prefix: str) -> Desk:
    """Return a desk on a server without a limit."""
    full.command("CONFIG", "SET", "maxmemory", 0)
    full.take_heard()
    return Desk(full, prefix)


def fill(desk: Desk, percent: float) -> None:
    """Have so much of the server's memory used, and nobody have looked at it yet."""
    info = dict(line.split(":", 1) for line in desk.link.command("INFO", "memory").decode().split() if ":" in line)
    used = int(info["used_memory"]) - int(info["mem_not_counted_for_evict"])
    desk.link.command("CONFIG", "SET", "maxmemory", int(used * 100 / percent))
    desk.link.command("DEL", f"{desk.slot}pressure")


def answered(desk: Desk, question: str, cache_ttl_ms: int = 30_000) -> None:
    """Have a question answered."""
    policy = ledger.Policy(3, 2, 20_000, 50_000, cache_ttl_ms)
    flight = desk.running(fingerprint=question, policy=policy)
    assert desk.settle(flight, replay=[], result="{}").status == "succeeded"


def kept(desk: Desk, *questions: str) -> list[str]:
    """Return those of the questions whose answers are kept; fails when their list says otherwise."""
    found = [name for name in questions if desk.link.command("EXISTS", f"{desk.slot}cache:{name}")]
    listed = {name.decode() for name in desk.link.command("ZRANGE", f"{desk.slot}cached", 0, -1)}
    assert listed == set(found)
    return found


@pytest.mark.parametrize(
    ("percent", "refused"),
    [(80, set()), (LEVELS[0], set()), (LEVELS[1], {"low"}), (LEVELS[2], {"low", "normal"})],
)
def test_lanes_are_refused_from_the_lowest_on(desk: Desk, percent: float, refused: set[str]) -> None:
    """A refusal says how much is used and leaves nothing behind; the high lane goes on."""
    fill(desk, percent)
    for lane in ("low", "normal", "high"):
        job = desk.submission(lane=lane, fingerprint="")
        reply = desk.submit(job)
        assert (reply.status == "full") == (lane in refused)
        if lane in refused:
            assert reply.used == pytest.approx(percent, abs=1)
            assert desk.traces(job.job, job.flight) == []


def test_what_needs_no_new_flight_is_taken(desk: Desk) -> None:
    """A job that is known, one that joins, and one that is answered at once cost nothing."""
    answered(desk, "cached")
    known = desk.submission(lane="low", fingerprint="flying")
    desk.submit(known)
    fill(desk, LEVELS[2])
    assert desk.submit(known).status == "dup"
    assert desk.submit(lane="low", fingerprint="flying").status == "joined"
    assert desk.submit(lane="low", fingerprint="cached").status == "cached"


def test_a_mark_of_100_is_never_reached(desk: Desk) -> None:
    """It switches all of this off."""
    fill(desk, LEVELS[2])
    policy = ledger.Policy(3, 2, 20_000, 50_000, 30_000, memory_high_water=100)
    assert desk.submit(lane="low", policy=policy).status == "new"
    answered(desk, "f")
    desk.look(memory_high_water=100)
    assert kept(desk, "f") == ["f"]


def test_a_look_counts_for_a_second(desk: Desk) -> None:
    """Not every submit asks the server; what was seen expires, and a sweep sees anew."""
    fill(desk, LEVELS[1])
    assert desk.submit(lane="low", fingerprint="").status == "full"
    assert 0 < desk.times_to_live()[f"{desk.slot}pressure"] <= 1000
    desk.link.command("CONFIG", "SET", "maxmemory", 0)
    assert desk.submit(lane="low", fingerprint="").status == "full"
    desk.link.command("DEL", f"{desk.slot}pressure")
    assert desk.submit(lane="low", fingerprint="").status == "new"
    assert desk.link.command("GET", f"{desk.slot}pressure") == b"0 0.0"


def test_short_memory_keeps_no_answers(desk: Desk) -> None:
    """None is written, and a sweep lets go of so many of those there are, first to expire first."""
    for number, question in enumerate("abc"):
        answered(desk, question, 30_000 - number)
    fill(desk, LEVELS[0])
    desk.look(limit=2)
    assert kept(desk, *"abc") == ["a"]
    answered(desk, "d")
    assert kept(desk, *"abcd") == ["a"]
    assert desk.submit(fingerprint="d").status == "new"


def test_the_list_of_answers_loses_what_has_expired(desk: Desk) -> None:
    """With memory enough a sweep leaves what may be given again."""
    answered(desk, "short", 1000)
    answered(desk, "long")
    desk.now += 1000
    desk.look()
    assert kept(desk, "long") == ["long"]


def test_who_may_not_ask_sees_no_pressure(desk: Desk, full: Link) -> None:
    """A user without INFO submits and sweeps as if memory were never short."""
    fill(desk, LEVELS[2])
    full.command("ACL", "SETUSER", "default", "-info")
    try:
        assert desk.submit(lane="low").status == "new"
        assert desk.look() == []
    finally:
        full.command("ACL", "SETUSER", "default", "+info")


def test_a_slice_is_bounded_in_count_and_size() -> None:
    """A single entry goes, however long; what fits goes as it is."""
    small, large = {"type": "delta", "text": "x"}, {"type": "delta", "text": "x" * (SLICE_SIZE // 2)}
    assert ledger.first_slice([]) == []
    assert ledger.first_slice([small] * SLICE_COUNT) == [small] * SLICE_COUNT
    assert len(ledger.first_slice([small] * 30_000)) == SLICE_COUNT
    assert ledger.first_slice([large, large, large]) == [large]
    assert ledger.first_slice([small, large, large]) == [small, large]


def test_tens_of_thousands_of_entries_are_written(desk: Desk) -> None:
    """In slices, each behind what the reply says is written; but whoever sends all at once is not refused."""
    flight = desk.running()
    entries = [{"type": "delta", "text": str(number)} for number in range(MANY)]
    written = 0
    while written < 2 * SLICE_COUNT:
        written = desk.append(flight, written + 1, *ledger.first_slice(entries[written:])).written
    assert desk.settle(flight, first=written + 1, entries=entries[written:]).status == "succeeded"
    assert desk.link.command("XLEN", desk.keys.events(flight)) == 1 + len(entries) + 1


def test_an_end_is_told_to_tens_of_thousands(desk: Desk) -> None:
    """However many share a flight, its end and its revocation are one call."""
    job = desk.submission()
    flight = desk.running(job)
    members = [part for number in range(MANY) for part in (desk.now + 100, f"3-{number:020x}")]
    desk.link.command("ZADD", desk.keys.members(flight), *members)
    assert desk.revoke(flight).status == "ended"
    assert desk.leave(job.job).reason == "cancelled"
    assert desk.link.command("PTTL", desk.keys.members(flight)) <= POLICY.keep_ms
