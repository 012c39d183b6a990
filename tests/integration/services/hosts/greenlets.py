# ruff: noqa: T201 - what it prints is read by a test
"""A process that gevent has patched: many greenlets follow, and none holds up another."""

from gevent import monkey

monkey.patch_all()

import json  # noqa: E402 - patched first, as gevent wants it
import sys  # noqa: E402

import gevent  # noqa: E402

import genqueue  # noqa: E402


def main(job_id):
    """Follow in every way while something else runs."""
    client = genqueue.Client()
    ticks = 0

    def tick():
        nonlocal ticks
        while True:
            gevent.sleep(0.005)
            ticks += 1

    ticker = gevent.spawn(tick)
    following = [gevent.spawn(lambda: [event.id for event in client.job(job_id).tail(timeout=30)]) for _ in range(20)]
    framed = gevent.spawn(lambda: [frame[4:].partition("\n")[0] for frame in genqueue.sse(client.job(job_id))][1:])
    ended = gevent.spawn(lambda: [job.id for job in genqueue.as_completed([client.job(job_id)], timeout=30)])
    mine = client.submit("From a greenlet", model="gemini-2.5-flash")
    gevent.sleep(0.2)
    before = ticks
    print("following", flush=True)
    gevent.joinall([*following, framed, ended], raise_error=True)
    ticker.kill()
    assert ticks > before
    assert ended.value == [job_id]
    assert mine.cancel()
    client.close()
    print(json.dumps({str(n): one.value for n, one in enumerate([*following, framed])}), flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
