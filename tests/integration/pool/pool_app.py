"""The Celery app that the pool tests run in worker processes; POOL_APP holds its options as JSON.

Every task body is written once as a coroutine: Celery's own pools get it wrapped in a plain function.
"""

import asyncio
import functools
import json
import os
import time
from contextlib import asynccontextmanager

import redis
from celery import Celery, chord, group, signals
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded

from genqueue_worker import cancellation

OPTIONS = json.loads(os.environ["POOL_APP"])
ASYNC = OPTIONS["pool"] not in {"threads", "prefork"}
QUEUES = ["generate.high.again", "generate.high", "generate.normal", "generate.low", "other"]

app = Celery("pool_app", task_cls="genqueue_worker.tracing:AsyncTask", set_as_current=False)
app.conf.update(
    broker_url=OPTIONS["url"],
    result_backend=OPTIONS["url"],
    broker_transport_options={
        "queue_order_strategy": "genqueue_worker.slots:Gate",
        "priority_steps": [0],
        "polling_interval": OPTIONS.get("poll", 1),  # seconds; a stop waits for the last poll
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    result_extended=True,
    task_default_queue="generate.normal",
    task_queues=None,
    worker_pool=OPTIONS["pool"],
    worker_prefetch_multiplier=1,
    worker_send_task_events=True,
    task_send_sent_event=False,
    **OPTIONS.get("conf", {}),
)
store = redis.Redis.from_url(OPTIONS["url"], decode_responses=True)


async def there(key):
    """Return once a key is there."""
    while True:
        if await asyncio.to_thread(store.exists, key):
            return
        await asyncio.sleep(0.005)


def note(task_id, what):
    """Record that something happened to a task."""
    store.rpush(f"notes:{task_id}", what)


def task(**options):
    """Register a coroutine as `t.<its name>`, for Celery's own pools as a plain function."""

    def register(body):
        function = body
        if not ASYNC:

            @functools.wraps(body)
            def function(*args, **kwargs):
                return asyncio.run(body(*args, **kwargs))

        return app.task(name=f"t.{body.__name__}", bind=True, **options)(function)

    return register


class Unpicklable(Exception):
    """An exception that cannot be pickled."""

    def __init__(self, message):
        super().__init__(message)
        self.lock = store  # a connection pool holds locks


@task()
async def echo(self, value):
    """Return the value."""
    return value


@task()
async def who(self, *args, **kwargs):
    """Return what the request says, after giving other coroutines a turn."""
    await asyncio.sleep(0.01)
    request = self.request
    return [request.id, request.args, request.kwargs, request.retries, request.is_eager, request.task]


@task()
async def parents(self, *args):
    """Return what came before."""
    return [args, self.request.parent_id, self.request.root_id]


@task()
async def lock(self):
    """Return what no serializer takes."""
    return object()


@task()
async def boom(self):
    """Fail."""
    raise ValueError("no such luck")


@task(throws=(KeyError,))
async def expected(self):
    """Fail as announced."""
    raise KeyError("missing")


@task()
async def unpicklable(self):
    """Fail with an exception that cannot leave the process."""
    raise Unpicklable("holds a connection")


@task(max_retries=2, default_retry_delay=0.1)
async def again(self, successes_after):
    """Ask for a retry until enough tries were made."""
    if self.request.retries < successes_after:
        raise self.retry(exc=OSError("not yet"))
    return self.request.retries


@task()
async def reject(self):
    """Reject the message for good."""
    raise Reject("unwanted", requeue=False)


@task(acks_late=True)
async def reject_late(self):
    """Reject the message for good, before it was acknowledged."""
    raise Reject("unwanted", requeue=False)


@task(acks_late=True)
async def requeue(self):
    """Reject the message once, to get it again."""
    if self.request.delivery_info["redelivered"]:
        return "second time"
    raise Reject("later", requeue=True)


@task()
async def ignore(self):
    """End without a result."""
    raise Ignore("nothing to say")


@task(track_started=True)
async def tracked(self):
    """Return the state that others see while it runs."""
    return app.AsyncResult(self.request.id).state


class Hooked(app.Task):
    """Task base that notes each hook."""

    abstract = True

    def before_start(self, task_id, args, kwargs):
        """Note it."""
        note(task_id, "hook:before_start")

    def on_success(self, retval, task_id, args, kwargs):
        """Note it and fail, which must change nothing."""
        note(task_id, "hook:on_success")
        raise RuntimeError("a broken hook")

    def on_failure(self, exc, task_id, args, kwargs, einfo):
        """Note it."""
        note(task_id, f"hook:on_failure:{exc!r}")

    def on_retry(self, exc, task_id, args, kwargs, einfo):
        """Note it."""
        note(task_id, f"hook:on_retry:{exc!r}")

    def after_return(self, status, retval, task_id, args, kwargs, einfo):
        """Note it."""
        note(task_id, f"hook:after_return:{status}:{retval!r}")


@task(base=Hooked, max_retries=1, default_retry_delay=0.1)
async def hooked(self, how):
    """Succeed, fail or retry under hooks."""
    if how == "fail":
        raise ValueError(how)
    if how == "retry" and not self.request.retries:
        raise self.retry()
    return how


@app.task(name="t.fan")
def fan(first, second):
    """Start a chord of one task and a body."""
    options = {"queue": "generate.normal"}
    header = group(app.signature("t.echo", args=[1], task_id=first, options=options), task_id="group", app=app)
    chord(header, app=app)(app.signature("t.parents", task_id=second, options=options))


@app.task(name="t.plain", bind=True)
def plain(self, value):
    """A plain function: runs in a thread."""
    return [self.request.id == self.request_stack.top.id, value]


def register_nap():
    """Register a task that sleeps in the way its pool can interrupt."""

    async def coroutine(self, seconds, how="raise"):
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            note(self.request.id, f"cancelled:{cancellation.reason()}")
            if how == "raise":
                raise
        return how

    def function(self, seconds, how="raise"):
        try:
            time.sleep(seconds)
        except SoftTimeLimitExceeded:
            note(self.request.id, "cancelled:soft")
            if how == "raise":
                raise
        return how

    app.task(name="t.nap", bind=True)(coroutine if ASYNC else function)


register_nap()


@task(acks_late=True)
async def late_nap(self, seconds):
    """Sleep, acknowledged only at the end."""
    note(self.request.id, "started")
    await asyncio.sleep(seconds)


@task()
async def hold(self, key):
    """Run until a key is there."""
    note(self.request.id, "started")
    try:
        await there(key)
    except asyncio.CancelledError as error:
        note(self.request.id, f"cancelled:{cancellation.reason()}:{error}")
        await asyncio.sleep(0.05)  # what a settle takes
        note(self.request.id, "cleaned up")
        raise
    return "held"


@task()
async def stubborn(self):
    """Ignore every cancellation."""
    note(self.request.id, "started")
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            note(self.request.id, "ignored")


@task()
async def leave(self):
    """Raise what would end the process."""
    raise SystemExit(3)


@task()
async def escape(self):
    """Raise what ends the loop, in an asyncio task of its own."""

    async def end():
        raise SystemExit(3)

    ended = asyncio.create_task(end())
    await asyncio.sleep(60)
    return ended


@asynccontextmanager
async def lifespan(pool):
    """Note its start and end; fail when told so."""
    if OPTIONS.get("lifespan") == "fails":
        raise RuntimeError("no data server\nat all")
    note("lifespan", f"entered:{pool.loop is asyncio.get_running_loop()}")
    async with asyncio.TaskGroup() as group:
        if OPTIONS.get("lifespan") == "breaks":
            group.create_task(break_on_demand())
        yield
    note("lifespan", "left")


async def break_on_demand():
    """Fail when asked to."""
    await there("break")
    raise RuntimeError("the runtime broke")


if "lifespan" in OPTIONS:
    app.genqueue_lifespan = lifespan

if OPTIONS.get("notes"):

    @signals.task_prerun.connect(weak=False)
    def on_prerun(task_id, **_):
        """Note it."""
        note(task_id, "signal:prerun")

    @signals.task_postrun.connect(weak=False)
    def on_postrun(task_id, state, retval, **_):
        """Note it."""
        note(task_id, f"signal:postrun:{state}:{retval!r}")

    @signals.task_success.connect(weak=False)
    def on_success(sender, result, **_):
        """Note it."""
        note(sender.request.id, f"signal:success:{result!r}")

    @signals.task_failure.connect(weak=False)
    def on_failure(task_id, exception, **_):
        """Note it."""
        note(task_id, f"signal:failure:{exception!r}")

    @signals.task_retry.connect(weak=False)
    def on_retry(request, reason, **_):
        """Note it."""
        note(request.id, f"signal:retry:{reason!r}")

    @signals.task_revoked.connect(weak=False)
    def on_revoked(request, terminated, expired, **_):
        """Note it."""
        note(request.id, f"signal:revoked:{terminated}:{expired}")
