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


def test_a_wrong_key_fails_jobs_in_the_providers_words_while_no_other_worker_is_there(
    own_emulator, client, start_worker
):
    """Each is a dead letter, worth a replay; once a worker with a right key is there, no job fails any more."""
    wrong = start_worker(GENQUEUE_GEMINI_API_KEY="wrong-key", GENQUEUE_KEY_PATIENCE=0.5)
    assert "access.refused route=gemini code=INVALID_ARGUMENT" in wrong.log()
    own_emulator.reset_stats()
    job = client.submit("hello", model=MODEL)
    with pytest.raises(JobFailed, match="API key not valid") as caught:
        job.result(timeout=30)
    assert caught.value.code == "INVALID_ARGUMENT"
    assert caught.value.retryable
    assert [request for request in own_emulator.stats()["requests"] if request["method"] == "POST"] == []
    assert "wrong-key" not in str(caught.value) + wrong.log()
    start_worker()
    jobs = client.submit_many([{"contents": f"question {n}", "model": MODEL} for n in range(60)])
    assert [job.result(timeout=30).source for job in jobs] == ["live"] * 60
