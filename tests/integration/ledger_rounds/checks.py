"""What must be true of every stream and job at the end of a round."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import TYPE_CHECKING, Any

from genqueue.events import TERMINAL
from genqueue.lanes import QUEUES

from .model import Violation
from .world import PARTITION

if TYPE_CHECKING:
    from .readers import Fields
    from .world import World

_TERMINAL = {name.encode() for name in TERMINAL}
_SHOWN = {b"delta", b"thought"}
_LIVE = {b"queued", b"running", b"waiting"}
_DEAD_FIELDS = ("state", "ending", "history", "ended", "token")


def check(world: World) -> None:
    """Check every flight and job; raises Violation."""
    world.look_for_traces()
    flights = sorted(set(world.model.flight_of.values()) - world.model.erased_flights)
    for readers in (world.readers.steady, world.readers.lazy, world.readers.listening):
        world.readers.read(readers, flights)
    _check_readers(world, flights)
    for flight in flights:
        entries = [fields for _, fields in world.readers.steady[flight].delivered]
        _check_end(flight, entries)
        _check_attempts(flight, entries)
        _check_text(flight, entries)
    ends = {job: _end_of(world, job, flight) for job, flight in world.model.flight_of.items() if flight in flights}
    _check_told(world, ends)
    check_requests(world)
    check_answers(world)
    check_dead(world)
    _check_replays(world)
    _check_keys(world)


def _check_readers(world: World, flights: list[str]) -> None:
    alive = world.link.commands([("EXISTS", world.keys.events(flight)) for flight in flights])
    for flight, exists in zip(flights, alive, strict=True):
        whole = world.readers.steady[flight].ids
        for name, reader in (("lazy", world.readers.lazy[flight]), ("listening", world.readers.listening[flight])):
            expected = whole if exists else whole[: len(reader.ids)]
            if reader.ids != expected:
                raise Violation(f"the {name} reader of {flight} has {reader.ids}, the stream {whole}")


def _check_end(flight: str, entries: list[Fields]) -> None:
    types = [entry[b"type"] for entry in entries]
    if types[:1] != [b"queued"]:
        raise Violation(f"{flight} begins with {types[:1]}")
    if sum(kind in _TERMINAL for kind in types) != 1 or types[-1] not in _TERMINAL:
        raise Violation(f"{flight} does not end once: {types}")


def _check_attempts(flight: str, entries: list[Fields]) -> None:
    """Check that attempts follow each other, each numbered without a gap and written by one token."""
    attempts = [int(entry[b"attempt"]) for entry in entries]
    if attempts != sorted(attempts):
        raise Violation(f"{flight} mixes its attempts: {attempts}")
    numbers: dict[bytes, list[int]] = defaultdict(list)
    tokens: dict[bytes, set[bytes]] = defaultdict(set)
    for entry in entries:
        if entry[b"n"] != b"0":
            numbers[entry[b"attempt"]].append(int(entry[b"n"]))
        if entry[b"type"] in _SHOWN and entry[b"attempt"] != b"0":
            tokens[entry[b"attempt"]].add(entry[b"text"].partition(b":")[0])
    for attempt, written in numbers.items():
        if written != list(range(1, len(written) + 1)):
            raise Violation(f"attempt {attempt!r} of {flight} is numbered {written}")
    if any(len(writers) > 1 for writers in tokens.values()):
        raise Violation(f"two tokens wrote one attempt of {flight}: {dict(tokens)}")


def _check_text(flight: str, entries: list[Fields]) -> None:
    """Check that what a reader shows at the end is the answer, and that nothing of another attempt is mixed in."""
    text = b""
    shown_of: set[bytes] = set()
    for entry in entries:
        if entry[b"type"] == b"restarted":
            text, shown_of = b"", set()
        elif entry[b"type"] == b"continued":
            shown_of = set()
        elif entry[b"type"] in _SHOWN:
            text += entry[b"text"] if entry[b"type"] == b"delta" else b""
            shown_of.add(entry[b"attempt"])
        elif entry[b"type"] == b"completed" and text != entry[b"text"]:
            raise Violation(f"{flight} shows {text!r}, the answer is {entry[b'text']!r}")
        if len(shown_of) > 1:
            raise Violation(f"{flight} shows two attempts at once: {shown_of}")


def _end_of(world: World, job: str, flight: str) -> str:
    """Return how a job ended, by its stream; raises Violation when it did not, or left twice."""
    mark = world.model.jobs[job].mark.encode()
    ends = []
    for _, entry in world.readers.steady[flight].delivered:
        if entry[b"type"] in _TERMINAL or entry.get(b"mark") == mark:
            ends.append(entry)
    types = [entry[b"type"] for entry in ends]
    if not types or types.count(b"left") > 1:
        raise Violation(f"job {job} ends with {types}")
    world.seen[f"end {types[0].decode()}"] += 1
    return ends[0].get(b"reason", types[0]).decode()


def _check_told(world: World, ends: dict[str, str]) -> None:
    """Check that every end is noted once, and that who wanted to be told heard of it."""
    entries = world.link.command("XRANGE", f"{world.keys.slot(PARTITION)}finished", "-", "+")
    noted = [dict(zip(values[::2], values[1::2], strict=True)) for _, values in entries]
    found = sorted((entry[b"job"].decode(), entry[b"state"].decode()) for entry in noted)
    expected = sorted(world.model.flight_of.keys() - world.model.erased)
    if [job for job, _ in found] != expected:
        raise Violation(f"noted as ended: {found}, jobs: {expected}")
    for job, state in found:
        if ends.get(job, state) != state:  # of a job that left a flight, which was erased since, it is not known
            raise Violation(f"{job} is noted as {state}, its stream says {ends[job]}")
        if world.model.jobs[job].on_done and world.model.told_of.get(job) != state:
            raise Violation(f"{job} ended as {state}, told was {world.model.told_of.get(job)}")


def check_requests(world: World) -> None:
    """Check which of the flights that ended still have their request; raises Violation."""
    flights = sorted(set(world.model.flight_of.values()))
    replies = world.link.commands([("HMGET", world.keys.flight(flight), "state", "request") for flight in flights])
    for flight, (state, request) in zip(flights, replies, strict=True):
        if state is None or state in _LIVE:
            continue
        kept = state == b"failed" and not world.model.stores_nothing(flight) and flight not in world.model.dropped
        world.seen[f"request of {state.decode()} {'kept' if kept else 'dropped'}"] += 1
        if (request is not None) != kept:
            raise Violation(f"{flight}, {state!r}, has the request {request!r}")


def check_dead(world: World) -> None:
    """Check that the dead letters are the flights that failed retryably, each with its history; raises Violation."""
    flights = sorted(set(world.model.flight_of.values()))
    dead = set(world.dead())
    replies = world.link.commands([("HMGET", world.keys.flight(flight), *_DEAD_FIELDS) for flight in flights])
    for flight, (state, ending, history, ended, left) in zip(flights, replies, strict=True):
        if state is None:
            continue
        if (ended is not None) != (state not in _LIVE):
            raise Violation(f"{flight}, {state!r}, ended at {ended!r}")
        expected = state == b"failed" and json.loads(ending).get("retryable") == "1"
        if (flight in dead) != (expected and flight not in world.model.dropped):
            raise Violation(f"{flight}, {state!r}, {ending!r} is {'' if flight in dead else 'no '}dead letter")
        if state not in _LIVE and left is not None:
            raise Violation(f"{flight}, {state!r}, has the token {left!r}")
        if expected and flight not in world.model.dropped:
            _check_history(world, flight, json.loads(history or "[]"))


def _check_history(world: World, flight: str, history: list[dict[str, Any]]) -> None:
    known = world.model.ended_attempts[flight]
    found = [(attempt["outcome"], attempt.get("code")) for attempt in history]
    if found != known[-20:] or {attempt["worker"] for attempt in history} != {"worker"}:
        raise Violation(f"the attempts of {flight} ended as {known}, its history is {history}")
    world.seen["history"] += len(history)


def check_answers(world: World) -> None:
    """Check that the list of answers kept for equal questions has each of them; raises Violation."""
    slot = world.keys.slot(PARTITION)
    listed = set(world.link.command("ZRANGEBYSCORE", f"{slot}cached", f"({world.now}", "+inf"))
    found = {question: world.kept_answer(question) for question in ("A", "B")}
    kept = {question.encode() for question, flight in found.items() if flight is not None}
    if unkept := world.model.unkept.intersection(flight for flight in found.values() if flight):
        raise Violation(f"kept are the answers of {unkept}, though memory was short")
    if listed != kept:
        raise Violation(f"kept are the answers {kept}, listed {listed}")


def _check_replays(world: World) -> None:
    jobs = [job for job in world.model.jobs if job not in world.model.erased]
    found = world.link.commands([("HMGET", world.keys.job(job), "flight", "replayed_from") for job in jobs])
    for job, (flight, origin) in zip(jobs, found, strict=True):
        expected = world.model.jobs[job].replayed_from
        world.seen["replayed from"] += bool(expected)
        if flight is not None and (origin or b"").decode() != expected:
            raise Violation(f"{job} repeats {expected!r}, known is {origin!r}")
    refused = world.model.refused - world.model.jobs.keys()
    if refused and world.link.command("EXISTS", *map(world.keys.job, refused)):
        raise Violation(f"of {refused}, which were refused, something was written")


def _check_keys(world: World) -> None:
    world.let_pass(0)
    slot = world.keys.slot(PARTITION)
    expected = world.link.commands([("ZRANGE", f"{slot}sent:{queue}", 0, -1) for queue in QUEUES])
    if any(expected):
        raise Violation(f"messages still expected: {expected}")
