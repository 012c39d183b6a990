# ruff: noqa: T201 - what it prints is read by a test
"""A process with many threads on one client, and several event loops on another."""

import asyncio
import json
import sys
import threading

import genqueue

client = genqueue.Client()
async_client = genqueue.AsyncClient()
seen = {}


def thread(job_id, name):
    """Follow a job in a thread."""
    seen[name] = [event.id for event in client.job(job_id).tail(timeout=30)]


async def several(job_id, name):
    """Follow a job several times on this thread's loop."""

    async def follow(number):
        seen[f"{name}-{number}"] = [event.id async for event in async_client.job(job_id).tail(timeout=30)]

    async with asyncio.TaskGroup() as group:
        for number in range(5):
            group.create_task(follow(number))
    # Not closed: the loop ends, and the client is used on the next.


def main(job_id):
    """Have them all follow at once, then one loop after the other."""
    threads = [threading.Thread(target=thread, args=(job_id, f"thread-{number}")) for number in range(10)]
    loops = [
        threading.Thread(target=lambda name: asyncio.run(several(job_id, name)), args=(f"loop-{number}",))
        for number in range(2)
    ]
    for one in threads + loops:
        one.start()
    print("following", flush=True)
    for one in threads + loops:
        one.join()
    for number in range(2):
        asyncio.run(several(job_id, f"later-{number}"))
    client.close()
    print(json.dumps(seen), flush=True)
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
