# ruff: noqa: T201 - what it prints is read by a test
"""A process that forks in the middle of a tail, and starts others by multiprocessing."""

import json
import multiprocessing
import os
import sys

import genqueue

client = genqueue.Client()


def text_of(job_id):
    """Return an answer, with the client that this process has got from its parent, or its own."""
    return client.job(job_id).text(timeout=20)


def said(who, ids):
    """Print what somebody has seen."""
    print(json.dumps({"who": who, "ids": ids}), flush=True)


def main(job_id):
    """Read two events, fork, and read the rest in both."""
    tail = client.job(job_id).tail(timeout=30)
    half = [next(tail).id, next(tail).id]
    child = os.fork()
    print("forked", flush=True)
    who = "parent" if child else "child"
    said(who, half + [event.id for event in tail])
    said(f"{who} anew", [event.id for event in client.job(job_id).tail(timeout=30)])
    if not child:
        client.close()
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    for method in ("fork", "spawn"):
        with multiprocessing.get_context(method).Pool(2) as pool:
            said(method, pool.map(text_of, [job_id] * 4))
    client.close()
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
