"""The readers in other languages: the golden streams, and random flights against our clients, event for event."""

import random
import re
from functools import partial
from itertools import groupby, pairwise

import pytest
import redis
from tests.contract.golden_streams import Stage, load, text_of, visible
from tests.contract.random_flights import Flight, cut_a_reader, entries_of, write
from tests.contract.schemas import PROTOCOL

from genqueue import Client
from genqueue.keys import Keys

from .foreign import ENDED, GAVE_UP, GONE, ForeignReader

GOLDEN = load()
READERS = ("redis-cli", "node", "go")
FLIGHTS = 1000
SEED = 21


@pytest.fixture
def reader_url(connection, database_url, prefix):
    """URL of the database for the user that the protocol advises: one that can do nothing but read."""
    advised = re.search(r"^ACL SETUSER reader on >secret (.*)$", PROTOCOL.read_text(), re.MULTILINE)[1]
    name, rights = f"reader-{prefix}", advised.replace("gq:", f"{prefix}:").split()
    connection.execute_command("ACL", "SETUSER", name, "on", ">secret", *rights)
    yield database_url.replace("redis://", f"redis://{name}:secret@")
    connection.execute_command("ACL", "DELUSER", name)


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("golden", GOLDEN.values(), ids=lambda one: one.name)
def test_golden_stream(golden, reader, commands, connection, reader_url, prefix):
    """Each golden stream, step by step where the reader must be there to see it, else all written before."""
    stage = Stage(connection, Keys(prefix), golden.mark)
    if not golden.staged:
        stage.play(golden)
    else:
        for entry in before(golden):
            stage.write(entry, golden.entries[entry])
    with ForeignReader([*commands[reader], stage.stream, golden.after, golden.mark], reader_url) as process:
        if golden.staged:
            follow(stage, golden, process)
        code = process.finish()
        shown = [(line["id"], line["type"], line["fields"]) for line in process.lines]
    assert (shown, code) == (golden.shown, {"ended": ENDED, "gone": GONE}[golden.end])
    assert golden.payload_keys or text_of(shown) == golden.text


def before(golden):
    """Return the ids of the entries that are there before the reader: its first one at least."""
    return [entry for entry in golden.entries if entry <= golden.after] or list(golden.entries)[:1]


def follow(stage, golden, process):
    """Do what else a golden stream says, waiting for the reader where it says so."""
    for step in golden.steps:
        for entry, fields in step.get("entries", {}).items():
            if entry not in before(golden):
                stage.write(entry, fields)
        stage.disturb(step)
        if "shown" in step:
            process.wait_for(partial(process.has, step["shown"]))


@pytest.mark.parametrize("reader", READERS)
def test_overdue_stream(reader, commands, connection, reader_url, prefix):
    """A reader gives up what nobody ends long after its deadline, and nothing that somebody still writes to."""
    golden, stage = GOLDEN["plain"], Stage(connection, Keys(prefix), "mark")
    first = golden.entries[golden.visible[0]]
    stage.write(golden.visible[0], first)
    asked = [stage.stream, "0-0", "mark"]
    with ForeignReader([*commands[reader], *asked], reader_url, patience=60) as process:
        assert process.finish() == GAVE_UP
        assert [line["id"] for line in process.lines] == golden.visible[:1]
    seconds, _ = connection.time()
    stage.write(f"{seconds * 1000}-0", golden.entries[golden.visible[1]])
    with ForeignReader([*commands[reader], *asked], reader_url, patience=60) as process:
        process.wait_for(partial(process.has, f"{seconds * 1000}-0"))
        stage.write(f"{seconds * 1000}-1", golden.entries[golden.visible[-1]])
        assert process.finish() == ENDED


@pytest.fixture
def hire(commands, reader_url):
    """Start one process of each reader; all are gone afterwards."""
    started = []

    def make():
        new = [ForeignReader(command, reader_url) for command in commands.values()]
        started.extend(new)
        return new

    yield make
    for process in started:
        process.close()


def test_restarted_server(commands, own_server, prefix):
    """A server that is killed and started again costs no reader an event."""
    golden = GOLDEN["restarted"]
    entries = list(golden.entries.items())
    with redis.Redis.from_url(own_server.url()) as connection:
        stage = Stage(connection, Keys(prefix), golden.mark)
        stage.write(*entries[0])
        asked = [stage.stream, golden.after, golden.mark]
        readers = [ForeignReader([*command, *asked], own_server.url()) for command in commands.values()]
        try:
            for (before, _), (entry, fields) in pairwise(entries):
                for reader in readers:
                    reader.wait_for(partial(reader.has, before))
                own_server.kill()
                own_server.start()
                stage.write(entry, fields)
            assert [reader.finish() for reader in readers] == [ENDED] * len(readers)
        finally:
            for reader in readers:
                reader.close()
    for reader in readers:
        assert [(line["id"], line["type"], line["fields"]) for line in reader.lines] == golden.shown


def stories(process):
    """Return what a reader has shown, by stream."""
    return {
        stream: [(line["id"], line["type"], line["fields"]) for line in lines]
        for stream, lines in groupby(process.lines, lambda line: line["stream"])
    }


@pytest.mark.timeout(300)
def test_random_flights(link, hire, database_url, prefix):
    """All agree with our client on a thousand flights, live with cut connections, and resumed anywhere behind that."""
    dice, keys = random.Random(SEED), Keys(prefix, FLIGHTS)
    flights = [Flight(link, keys, number, dice.getrandbits(32)) for number in range(FLIGHTS)]
    readers = hire()
    cuts = 0
    for flight in write(flights, dice):
        for reader in readers:
            reader.ask(keys.events(flight.aboard[0].flight), "0-0", flight.aboard[0].mark)
        cuts += dice.random() < 0.02 and cut_a_reader(link, dice)
    assert cuts > 5
    ours, live, rest = {}, {}, {}
    resumed = hire()
    with Client(data_url=database_url, key_prefix=prefix, partitions=FLIGHTS) as client:
        for flight in flights:
            first, other = flight.aboard[0], dice.choice(flight.aboard)
            ours[first], ours[other] = tail(client, first), tail(client, other)
            after = dice.choice(ours[other])[0]
            live[keys.events(first.flight)] = ours[first]
            rest[keys.events(other.flight)] = tail(client, other, after)
            for reader in resumed:
                reader.ask(keys.events(other.flight), after, other.mark)
    for job, shown in ours.items():
        assert shown == visible(entries_of(link, keys, job.flight), job.mark)
    rest = {stream: shown for stream, shown in rest.items() if shown}
    for name, early, late in zip(READERS, readers, resumed, strict=True):
        assert (early.finish(), late.finish()) == (ENDED, ENDED), name
        assert [stories(early), stories(late)] == [live, rest], name


def tail(client, job, after=None):
    """Return what our client shows of a job."""
    return [(event.id, event.type, dict(event.fields)) for event in client.job(job.job).tail(after)]
