"""A thousand random flights, read by both of our clients while they are written, and again from somewhere inside."""

import asyncio
import queue
import random
import threading
from itertools import pairwise

from genqueue import AsyncClient, Client
from genqueue.events import TERMINAL
from genqueue.keys import Keys

from .golden_streams import text_of, visible
from .random_flights import Flight, cut_a_reader, entries_of, write

FLIGHTS = 1000
SEED = 20
THREADS = 8


def plain(event):
    """Return an event as the rules in plain words give it."""
    return event.id, event.type, dict(event.fields)


class Blocking:
    """Reads with the blocking client, on a few threads."""

    def __init__(self, **settings):
        self.client = Client(**settings)
        self.shown, self.errors = {}, []
        self._asked = queue.SimpleQueue()
        self._threads = [threading.Thread(target=self._work, daemon=True) for _ in range(THREADS)]
        for thread in self._threads:
            thread.start()

    def _work(self):
        while (asked := self._asked.get()) is not None:
            try:
                self.shown[asked] = [plain(event) for event in self.client.job(asked[0]).tail(asked[1])]
            except Exception as error:  # noqa: BLE001 - told to the test
                self.errors.append((asked, error))

    def read(self, job, after=None):
        """Begin to read a job's events behind an id."""
        self._asked.put((job, after))

    def finish(self):
        """Wait for the last event of all."""
        for _ in self._threads:
            self._asked.put(None)
        for thread in self._threads:
            thread.join(60)
        assert not any(thread.is_alive() for thread in self._threads)
        assert not self.errors
        self.client.close()
        return self.shown


class Looped:
    """Reads with the asyncio client, all at once on one loop."""

    def __init__(self, **settings):
        self._settings = settings
        self.shown, self.errors = {}, []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._main(),), daemon=True)
        self._thread.start()
        self._ready.wait()

    async def _main(self):
        self._loop, self._queue = asyncio.get_running_loop(), asyncio.Queue()
        self._ready.set()
        async with AsyncClient(**self._settings) as client, asyncio.TaskGroup() as group:
            while (asked := await self._queue.get()) is not None:
                group.create_task(self._follow(client, *asked))

    async def _follow(self, client, job, after):
        try:
            self.shown[job, after] = [plain(event) async for event in client.job(job).tail(after)]
        except Exception as error:  # noqa: BLE001 - told to the test
            self.errors.append(((job, after), error))

    def read(self, job, after=None):
        """Begin to read a job's events behind an id."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, (job, after))

    def finish(self):
        """Wait for the last event of all."""
        self._loop.call_soon_threadsafe(self._queue.put_nowait, None)
        self._thread.join(60)
        assert not self._thread.is_alive()
        assert not self.errors
        return self.shown


def test_clients_and_rules_agree(link, database_url, prefix):
    """Live readers, some of whose connections are cut, and readers resumed anywhere are shown what the rules say."""
    dice, settings = random.Random(SEED), {"data_url": database_url, "key_prefix": prefix, "partitions": FLIGHTS}
    flights = [Flight(link, Keys(prefix, FLIGHTS), number, dice.getrandbits(32)) for number in range(FLIGHTS)]
    clients = [Blocking(**settings), Looped(**settings)]
    cuts = 0
    for flight in write(flights, dice):
        for client in clients:
            client.read(flight.aboard[0].job)
        cuts += dice.random() < 0.02 and cut_a_reader(link, dice)
    assert cuts > 5
    live = [client.finish() for client in clients]

    expected = {}
    clients = [Blocking(**settings), Looped(**settings)]
    for flight in flights:
        jobs = [flight.aboard[0], dice.choice(flight.aboard)]
        for job in jobs:
            entries = entries_of(link, flight.keys, job.flight)
            expected[job.job, None] = whole = visible(entries, job.mark)
        at = dice.randrange(len(whole))
        after = whole[at][0]
        expected[jobs[1].job, after] = rest = visible(entries, jobs[1].mark, after) if at + 1 < len(whole) else []
        assert text_of([*whole[: at + 1], *rest]) == text_of(whole)
        for client in clients:
            client.read(jobs[1].job, after)
    again = [client.finish() for client in clients]
    assert any(one[0] == following[0] for story in expected.values() for one, following in pairwise(story))
    kinds = {shown[1] for story in expected.values() for shown in story}
    assert kinds >= {"restarted", "continued", "waiting", "left", "weather", "part", *TERMINAL}
    for early, late in zip(live, again, strict=True):
        differing = [asked for asked, shown in {**early, **late}.items() if shown != expected[asked]]
        assert not differing
        assert len(early) == len(late) == FLIGHTS
