"""What a sweep tells the ledger about the broker, and what it publishes."""

import asyncio
import contextlib

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from genqueue.lanes import QUEUES, SUBMIT_QUEUE
from genqueue.ledger import Publication
from genqueue_worker.settings import WorkerSettings
from genqueue_worker.sweeper import Servers, Sweeper

DUE = [b"3-" + b"f" * 20, b"generate.high.again", b"77", b"due"]


class Broker:
    """Knows the depth of each queue; notes in `story` when it was asked."""

    def __init__(self, story):
        self.depths = dict.fromkeys((*QUEUES, SUBMIT_QUEUE), 0)
        self.away = None
        self.role = b"master"
        self.refused = asyncio.Event()
        self._story = story
        self._asked = []

    def pipeline(self, *, transaction):
        """Return itself, as a connection would a pipeline."""
        return self

    async def __aenter__(self):
        self._asked = []
        return self

    async def __aexit__(self, *_):
        return None

    def execute_command(self, *command):
        """Take the question what kind of server this is."""
        assert command == ("HELLO",)

    def llen(self, queue):
        """Note a queue."""
        self._asked.append(queue)

    async def execute(self, *, raise_on_error):
        """Return its role and the depths asked for."""
        assert not raise_on_error
        self._story.append("depths")
        if self.away is not None:
            self.refused.set()
            raise self.away
        return [[b"role", self.role], *(self.depths[queue] for queue in self._asked)]

    @property
    def connection_pool(self):
        """Return itself, as it holds its connections."""
        return self

    async def disconnect(self):
        """Close the connections: the next leads to the new primary."""
        self.role = b"master"


class Data:
    """Has the marks of all workers."""

    def __init__(self, story):
        self.marks = {}
        self._story = story

    async def execute_command(self, *command):
        """Return the marks."""
        self._story.append(command[0])
        return self.marks


class Courier:
    """Notes the marks it carries."""

    def __init__(self, story):
        self.calls = []
        self._story = story

    async def ask(self, call):
        """Carry one call."""
        self._story.append(call.script.name)
        self.calls.append(call)


class Dispatcher:
    """Notes what is published."""

    def __init__(self):
        self.published = []
        self.rung = asyncio.Event()
        self._loop = asyncio.get_running_loop()

    def publish(self, publications):
        """Note publications; called in another thread."""
        self.published += publications
        self._loop.call_soon_threadsafe(self.rung.set)


class World:
    """A sweeper and all it looks at."""

    def __init__(self, keys):
        self.story = []
        self.broker, self.data, self.courier = Broker(self.story), Data(self.story), Courier(self.story)
        self.dispatcher = Dispatcher()
        settings = WorkerSettings(sweep_interval=0.001, sweep_slack=5, lease_other=15)
        self.sweeper = Sweeper(Servers(self.data, self.broker, self.courier), keys, self.dispatcher, settings)


@pytest.fixture
async def world(keys, data_server):
    """Make a world in which nothing is due."""
    data_server.answer = lambda call: []
    return World(keys)


def readings(call):
    """Return what a sweep was told of each queue: the highest stamp popped, and whether it is empty."""
    told = call.args[7:]
    return {told[index]: (told[index + 1], told[index + 2]) for index in range(0, len(told), 3)}


async def test_every_partition_is_swept_once(world, data_server, keys):
    """In one pipeline."""
    await world.sweeper.sweep()
    assert [call.keys for call in data_server.pipelines[0]] == [
        (slot,) for slot in [keys.slot(partition) for partition in range(keys.partitions)]
    ]
    assert world.dispatcher.published == []


async def test_a_sweep_knows_depths_and_marks(world, data_server):
    """An empty queue is one whose length was 0; a queue nobody popped from has the mark 0."""
    world.broker.depths["generate.low"] = 3
    world.data.marks = {b"generate.low": b"55"}
    await world.sweeper.sweep()
    told = readings(data_server.pipelines[0][0])
    assert set(told) == set(QUEUES)
    assert told["generate.low"] == (55, 0)
    assert told["generate.high"] == (0, 1)


async def test_depths_are_read_before_marks(world):
    """A message popped in between then shows in the marks: the other way round it would look lost."""
    world.sweeper.saw("generate.low", 5)
    await world.sweeper.sweep()
    assert world.story == ["depths", "mark", "HGETALL"]


async def test_the_highest_stamp_of_each_queue_is_reported(world):
    """Whatever order they were popped in."""
    for stamp in (5, 9, 7):
        world.sweeper.saw("generate.low", stamp)
    world.sweeper.saw("generate.high", 1)
    await world.sweeper.sweep()
    (mark,) = world.courier.calls
    assert mark.args == ("generate.low", 9, "generate.high", 1)


async def test_what_is_due_is_published(world, data_server, keys):
    """From every partition, and one that fails costs the others nothing."""
    slots = [keys.slot(partition) for partition in range(keys.partitions)]
    data_server.answer = lambda call: ResponseError("ERR") if call.keys == (slots[1],) else [DUE]
    await world.sweeper.sweep()
    assert world.dispatcher.published == [Publication("3-" + "f" * 20, "generate.high.again", 77)] * (len(slots) - 1)


async def test_a_broker_that_was_made_a_replica_is_left(world, data_server, caplog):
    """It would answer for ever; whoever is the primary is where its name leads."""
    world.broker.role = b"slave"
    await world.sweeper.sweep()
    assert data_server.pipelines[0][0].args[7:] == ()  # nothing is held for lost by what it said
    assert "the broker is a replica" in caplog.text
    await world.sweeper.sweep()
    assert readings(data_server.pipelines[-1][0])


async def test_sweeping_goes_on_after_an_outage(world, data_server, caplog):
    """A broker that is away is looked for again; what is due then is published."""
    data_server.answer = lambda call: [DUE]
    world.broker.away = RedisConnectionError("away")
    sweeping = asyncio.ensure_future(world.sweeper.run())
    async with asyncio.timeout(5):
        await world.broker.refused.wait()
        world.broker.away = None
        await world.dispatcher.rung.wait()
    sweeping.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sweeping
    assert "sweeper.broker_away" in caplog.text
    assert world.dispatcher.published
