# ruff: noqa: T201 - what it prints is read by a test
"""Somebody's Celery app with a broker of its own, which uses genqueue before, between and after its own tasks."""

import sys

from celery import Celery, _state, current_app, shared_task

import genqueue


@shared_task(name="host.before")
def before():
    """Be defined before anything else."""


def main(broker):
    """Use both, in turn, and see whose app is whose."""
    client = genqueue.Client()
    first = client.submit("Before the host has an app", model="gemini-2.5-flash")
    assert _state.default_app is None, _state.default_app
    app = Celery("host", broker=broker)
    assert current_app._get_current_object() is app

    @shared_task(name="host.after")
    def after():
        """Be defined afterwards."""

    second = genqueue.Client().submit("Afterwards", model="gemini-2.5-flash")
    assert current_app._get_current_object() is app
    assert before.app is after.app is app
    before.delay()
    after.delay()
    app.finalize()
    assert {"host.before", "host.after"} <= set(app.tasks)
    ours = [one for one in _state._get_active_apps() if one is not app]
    assert ours
    assert not [one for one in ours if one.finalized or "host.before" in one._tasks], "a host's task is in our app"
    assert first.cancel()
    assert second.cancel()
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
