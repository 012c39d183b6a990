"""Gates: never too many at once, and nobody waits behind a server that is away."""

import asyncio
import threading

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from genqueue.connections.gate import AsyncGate, Gate, Turned
from genqueue.connections.server import unavailable


class Crowd:
    """Threads that go through a gate and stay there until they are let go.

    Attributes:
        ends: what each came to.
    """

    def __init__(self, gate):
        self.ends = []
        self._gate = gate
        self._inside = threading.Semaphore(0)
        self._threads = []

    def enter(self, leaving):
        """Send one in, who leaves when `leaving` is set, with its error if it has one."""
        thread = threading.Thread(target=self._pass, args=(leaving,), daemon=True)
        self._threads.append(thread)
        thread.start()

    def _pass(self, leaving):
        try:
            with self._gate.passage():
                self._inside.release()
                assert leaving.wait(20)
                if leaving.error is not None:
                    raise leaving.error
            self.ends.append(None)
        except RedisConnectionError as error:
            self.ends.append(error)
        except ResponseError as error:
            self.ends.append(error)

    def has_inside(self, count):
        """Wait until so many more are inside, and no more."""
        for _ in range(count):
            assert self._inside.acquire(timeout=20)
        assert not self._inside.acquire(blocking=False)

    def gone(self):
        """Wait until everybody has left."""
        for thread in self._threads:
            thread.join(20)
            assert not thread.is_alive()


class Leaving(threading.Event):
    """When to leave, and with what error."""

    def __init__(self, error=None):
        super().__init__()
        self.error = error


def test_no_more_than_its_width_pass_at_once():
    """The others wait, and get through when one leaves."""
    crowd, first, rest = Crowd(Gate(2)), Leaving(), Leaving()
    for leaving in (first, rest):
        crowd.enter(leaving)
    crowd.has_inside(2)
    for _ in range(3):
        crowd.enter(rest)
    first.set()
    crowd.has_inside(1)
    rest.set()
    crowd.gone()
    assert crowd.ends == [None] * 5


def waiting(gate, count):
    """Wait until so many threads stand at a gate."""
    while len(gate._changed._waiters) < count:
        pass


def test_who_waits_is_turned_away_when_the_server_turns_out_to_be():
    """At once, with nothing sent; whoever comes later may try."""
    gate, failing = Gate(1), Leaving(RedisConnectionError("away"))
    crowd = Crowd(gate)
    crowd.enter(failing)
    crowd.has_inside(1)
    for _ in range(3):
        crowd.enter(failing)
    waiting(gate, 3)
    failing.set()
    crowd.gone()
    turned = [end for end in crowd.ends if isinstance(end, Turned)]
    assert len(turned) == 3
    assert not unavailable("s", turned[0]).sent
    fine = Leaving()
    fine.set()
    crowd.enter(fine)
    crowd.gone()
    assert crowd.ends[-1] is None


def test_a_refusal_turns_nobody_away():
    """The server is there."""
    gate, refused, fine = Gate(1), Leaving(ResponseError("wrong")), Leaving()
    crowd = Crowd(gate)
    crowd.enter(refused)
    crowd.has_inside(1)
    crowd.enter(fine)
    waiting(gate, 1)
    refused.set()
    fine.set()
    crowd.gone()
    assert [type(end) for end in crowd.ends] == [ResponseError, type(None)]


class Tasks:
    """Tasks that go through a gate, each until its own future is resolved."""

    def __init__(self, gate):
        self.inside = []
        self._gate = gate

    def enter(self):
        """Send one in; returns its task and the future it waits for."""
        leaving = asyncio.get_running_loop().create_future()
        return asyncio.ensure_future(self._pass(leaving)), leaving

    async def _pass(self, leaving):
        async with self._gate.passage():
            self.inside.append(leaving)
            await leaving


async def settle():
    """Let every task go as far as it can."""
    for _ in range(10):
        await asyncio.sleep(0)


async def test_tasks_pass_in_the_order_they_came():
    """No more than its width at once."""
    tasks = Tasks(AsyncGate(2))
    running = [tasks.enter() for _ in range(4)]
    await settle()
    assert tasks.inside == [leaving for _, leaving in running[:2]]
    running[1][1].set_result(None)
    await settle()
    assert tasks.inside == [leaving for _, leaving in running[:3]]
    for _, leaving in running:
        if not leaving.done():
            leaving.set_result(None)
    await asyncio.gather(*(task for task, _ in running))
    assert len(tasks.inside) == 4


async def test_tasks_are_turned_away_too():
    """And refusals concern nobody else."""
    tasks = Tasks(AsyncGate(1))
    (first, refusing), (second, failing), (third, _) = (tasks.enter() for _ in range(3))
    await settle()
    refusing.set_exception(ResponseError("wrong"))
    await settle()
    assert tasks.inside == [refusing, failing]
    failing.set_exception(RedisConnectionError("away"))
    ends = await asyncio.gather(first, second, third, return_exceptions=True)
    assert [type(end) for end in ends] == [ResponseError, RedisConnectionError, Turned]


@pytest.mark.parametrize("late", [False, True])
async def test_a_cancelled_task_takes_nobodys_turn(late):
    """Neither while it waits, nor when its turn comes at that very moment."""
    tasks = Tasks(AsyncGate(1))
    (first, leaving), (second, _), (third, last) = (tasks.enter() for _ in range(3))
    await settle()
    if late:
        leaving.set_result(None)
        await asyncio.sleep(0)
    second.cancel()
    if not late:
        leaving.set_result(None)
    await settle()
    assert tasks.inside[-1] is last
    last.set_result(None)
    await asyncio.gather(first, third)
    with pytest.raises(asyncio.CancelledError):
        await second
