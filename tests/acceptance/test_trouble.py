"""What a user sees when something is missing or wrong."""

import time

import pytest

from genqueue import Client, JobFailed
from genqueue.errors import ServerUnavailable, SubmitUncertain
from genqueue_lab.servers import free_port

MODEL = "gemini-2.5-flash"


def test_no_server_is_a_clear_error_soon():
    """With no server, submit names the server and the variable to set, in less than 3 s."""
    port = free_port()
    started = time.monotonic()
    url = f"redis://user:secret@127.0.0.1:{port}/0"
    with Client(data_url=url) as client, pytest.raises(ServerUnavailable, match="GENQUEUE_DATA_URL") as caught:
        client.submit("hello", model=MODEL)
    assert time.monotonic() - started < 3
    assert str(port) in str(caught.value)
    assert "secret" not in str(caught.value)


def test_stopped_server_is_a_clear_error_soon(own_server):
    """With a server that hangs, submit gives up in less than 3 s too; submitted again under its id the job is one."""
    with Client(data_url=own_server.url()) as client:
        client.submit("hello", model=MODEL)
        own_server.kill(19)  # SIGSTOP: it accepts and never answers
        started = time.monotonic()
        try:
            with pytest.raises(SubmitUncertain) as uncertain:
                client.submit("hello again", model=MODEL)
            assert time.monotonic() - started < 3
        finally:
            own_server.kill(18)
        job = client.submit("hello again", model=MODEL, job_id=uncertain.value.job_id)
        assert job.id == uncertain.value.job_id
        assert job.status().state == "queued"


def test_wrong_key_fails_with_the_providers_reason(own_emulator, client, start_worker):
    """A wrong API key fails the job in Google's words after one request: no retry storm."""
    start_worker(GENQUEUE_GEMINI_API_KEY="wrong-key")
    own_emulator.reset_stats()
    job = client.submit("hello", model=MODEL)
    with pytest.raises(JobFailed, match="API key not valid") as caught:
        job.result(timeout=30)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert not caught.value.retryable
    assert len([request for request in own_emulator.stats()["requests"] if request["method"] == "POST"]) == 1
    assert "wrong-key" not in str(caught.value)
