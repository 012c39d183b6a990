"""A job's events as a response's body: how it begins, ends, and what a reader who leaves sets free."""

import asyncio
import logging

import pytest

from genqueue import frames, sse
from genqueue.aio import AsyncJob
from genqueue.errors import InvalidRequest, JobNotFound, ServerUnavailable, StreamGone
from genqueue.events import Event

JOB = "17-" + "a" * 20
EVENTS = [Event("1-0", "queued"), Event("2-0", "delta", fields={"text": "Yes."}), Event("3-0", "completed")]


class Played:
    """A job whose tail is played.

    Attributes:
        asked: what it was tailed with.
        released: whether the tail was closed.
        cancelled: whether the job was cancelled.
    """

    def __init__(self, events=EVENTS, error=None, cancel_error=None):
        self.id = JOB
        self.events, self.error, self.cancel_error = events, error, cancel_error
        self.asked = None
        self.released = False
        self.cancelled = False

    def _cancel(self):
        if self.cancel_error:
            raise self.cancel_error
        self.cancelled = True


class PlayedJob(Played):
    """For the blocking client."""

    def tail(self, after=None, *, heartbeat=None):
        """Play it."""
        self.asked = (after, heartbeat)
        try:
            yield from self.events
            if self.error:
                raise self.error
        finally:
            self.released = True

    def cancel(self):
        """Note it."""
        self._cancel()


class PlayedAsyncJob(Played, AsyncJob):
    """For the asyncio client; waits without end behind its events unless they end the job."""

    def __init__(self, *args, **options):
        super().__init__(*args, **options)
        self.waiting = asyncio.Event()
        self.gone = asyncio.Event()

    async def tail(self, after=None, *, heartbeat=None):
        """Play it."""
        self.asked = (after, heartbeat)
        try:
            for event in self.events:
                yield event
            if self.error:
                raise self.error
            if not self.events[-1].terminal:
                self.waiting.set()
                await asyncio.Event().wait()
        finally:
            self.released = True

    async def cancel(self):
        """Note it."""
        await asyncio.sleep(0)
        self.gone.set()
        self._cancel()


async def all_of(body):
    """Return every frame of an asynchronous body."""
    return [frame async for frame in body]


async def test_the_first_frame_comes_before_anything_is_asked():
    """So a proxy sees the response at once, however long the job waits."""
    job, async_job = PlayedJob(), PlayedAsyncJob()
    assert next(sse(job)) == await anext(sse(async_job)) == frames.RETRY
    assert job.asked is async_job.asked is None


async def test_every_event_is_a_frame():
    """From the first to the job's last, with both clients."""
    expected = [frames.RETRY, *map(frames.frame, EVENTS)]
    assert list(sse(PlayedJob())) == await all_of(sse(PlayedAsyncJob())) == expected


@pytest.mark.parametrize(("header", "after"), [(None, None), ("", None), ("5-1", "5-1")])
async def test_the_header_says_where_to_go_on(header, after):
    """As the framework gives it: None, empty, or an id."""
    job, async_job = PlayedJob(), PlayedAsyncJob()
    list(sse(job, header))
    await all_of(sse(async_job, header))
    assert job.asked == async_job.asked == (after, 15.0)


@pytest.mark.parametrize("header", ["x", "5", "5-1-1", "5-1\nid: 1", f"{2**64}-0", b"5-1"])
def test_a_header_that_is_no_id_is_refused_before_the_response_begins(header):
    """So the host can answer 400."""
    for job in (PlayedJob(), PlayedAsyncJob()):
        with pytest.raises(InvalidRequest, match=r"^last_event_id"):
            sse(job, header)


@pytest.mark.parametrize("heartbeat", [0, -1, float("nan"), "15", 1e6, None])
def test_a_heartbeat_is_some_seconds(heartbeat):
    """Neither none nor for ever."""
    with pytest.raises(InvalidRequest, match=r"^heartbeat"):
        sse(PlayedJob(), heartbeat=heartbeat)


@pytest.mark.parametrize(
    ("error", "name", "code"),
    [
        (StreamGone(JOB), "gone", "stream_gone"),
        (JobNotFound(JOB), "error", "job_not_found"),
        (ServerUnavailable("x", "refused"), "error", "server_unavailable"),
    ],
)
async def test_a_stream_that_cannot_be_read_on_says_so_and_ends(error, name, code, caplog):
    """The response has begun, so it is a frame."""
    caplog.set_level(logging.WARNING)
    bodies = [list(sse(PlayedJob(EVENTS[:2], error))), await all_of(sse(PlayedAsyncJob(EVENTS[:2], error)))]
    for body in bodies:
        assert body[-1].startswith(f"event: {name}\ndata: {{")
        assert f'"code":"{code}"' in body[-1]
        assert len(body) == 4
    assert ("sse.cut" in caplog.text) == (name == "error")


@pytest.mark.parametrize("frames_read", [1, 2])
@pytest.mark.parametrize("cancel", [False, True])
def test_a_reader_who_leaves_sets_the_tail_free(frames_read, cancel):
    """At once; the job goes on unless the host wants it otherwise."""
    job = PlayedJob()
    body = sse(job, cancel_on_disconnect=cancel)
    for _ in range(frames_read):
        next(body)
    body.close()
    assert job.released == (frames_read > 1)
    assert job.cancelled == cancel


@pytest.mark.parametrize("cancel", [False, True])
@pytest.mark.parametrize("how", ["closed", "cancelled"])
async def test_an_asynchronous_reader_who_leaves_sets_the_tail_free(how, cancel):
    """Whether the framework closes the body or cancels who reads it."""
    job = PlayedAsyncJob(EVENTS[:2])
    body = sse(job, cancel_on_disconnect=cancel)
    if how == "closed":
        assert [await anext(body) for _ in range(2)]
        await body.aclose()
    else:
        reading = asyncio.ensure_future(all_of(body))
        await job.waiting.wait()
        reading.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
    assert job.released
    if cancel:
        await job.gone.wait()
    assert job.cancelled == cancel


def test_a_job_that_ended_is_not_cancelled():
    """Whoever has read all has not left."""
    job = PlayedJob()
    body = sse(job, cancel_on_disconnect=True)
    list(body)
    body.close()
    assert not job.cancelled


async def test_a_cancel_that_fails_is_logged(caplog):
    """There is nobody left to tell."""
    caplog.set_level(logging.WARNING)
    away = ServerUnavailable("x", "refused")
    body = sse(PlayedJob(cancel_error=away), cancel_on_disconnect=True)
    next(body)
    body.close()
    job = PlayedAsyncJob(cancel_error=away)
    async_body = sse(job, cancel_on_disconnect=True)
    await anext(async_body)
    await async_body.aclose()
    await job.gone.wait()
    await asyncio.sleep(0)
    assert caplog.text.count("sse.not_cancelled") == 2
