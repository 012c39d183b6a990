"""One worker process holds hundreds of streams on a few HTTP/2 connections."""

MODEL = "gemini-2.5-flash"
STREAMS = 300

#: Seconds until all streams must be there, for a machine with other work.
PATIENCE = 120


def test_hundreds_of_streams_are_live_at_once(own_emulator, client, start_worker):
    """300 requests are under way at once, over HTTP/2, on at most 8 connections, before any of them has an answer."""
    start_worker(slots=STREAMS, GENQUEUE_FIRST_TOKEN_TIMEOUT=2 * PATIENCE)
    held = own_emulator.fault("slow_start", seconds=2 * PATIENCE)
    jobs = client.submit_many([{"contents": f"question {number}", "model": MODEL} for number in range(STREAMS)])

    seen = own_emulator.wait(PATIENCE, calls_at_least=STREAMS)
    own_emulator.clear_faults(held)

    requests = [request for request in seen["requests"] if request["prompt"] and request["end"] is None]
    assert len(requests) == STREAMS
    assert {request["protocol"] for request in requests} == {"h2"}
    assert len({request["connection"] for request in requests}) <= 8
    assert {request["first"] for request in requests} == {None}
    assert {job.result(timeout=PATIENCE).finish_reason for job in jobs} == {"STOP"}
