"""One worker process holds hundreds of streams on a few HTTP/2 connections."""

import os
import signal

MODEL = "gemini-2.5-flash"
STREAMS = 300


def test_hundreds_of_streams_start_together(own_emulator, client, start_worker):
    """300 streams of 1 s TTFT start within 1.3 s of each other, over HTTP/2, on at most 8 connections."""
    worker = start_worker(slots=STREAMS, arguments=["-l", "INFO"])
    client.submit("warm-up", model=MODEL).result(timeout=30)
    own_emulator.set(ttft=1.0, tpot=0.01, tokens=10)
    os.kill(worker.pid, signal.SIGSTOP)  # the queue fills while nobody pops
    jobs = [client.submit(f"question {n}", model=MODEL) for n in range(STREAMS)]
    own_emulator.reset_stats()
    os.kill(worker.pid, signal.SIGCONT)

    for job in jobs:
        assert job.result(timeout=60).finish_reason == "STOP"

    stats = own_emulator.stats()
    requests = [request for request in stats["requests"] if request["model"]]
    starts = [request["start"] for request in requests]
    connections = {request["connection"] for request in requests}
    assert len(requests) == STREAMS
    assert {request["protocol"] for request in requests} == {"h2"}
    assert len(connections) <= 8
    assert max(starts) - min(starts) < 1.3
