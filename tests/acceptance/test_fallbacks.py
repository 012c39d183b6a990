"""Several providers in one worker, chosen by the job's model, and models asked in the place of others."""

import pytest

from genqueue import JobFailed

ASKED, BETWEEN, OTHER = "gemini-2.5-pro", "gemini-2.5-flash", "gpt-4.1-mini"
TABLE = f"""
[aliases]
careful = "{ASKED}"
retired = "gemini-1.0-pro"

[fallbacks]
"{ASKED}" = ["{BETWEEN}", "{OTHER}"]
"gemini-1.0-pro" = ["{OTHER}"]
"""


@pytest.fixture
def start_both(own_emulator, start_worker, tmp_path):
    """Start a worker that asks both of the emulator's APIs and has a table of fallbacks."""
    table = tmp_path / "models.toml"
    table.write_text(TABLE)

    def start(**options):
        openai = {
            "GENQUEUE_OPENAI_BASE_URL": f"{own_emulator.url}/v1",
            "GENQUEUE_OPENAI_API_KEY": "test-key",
            "GENQUEUE_OPENAI_CA_FILE": own_emulator.ca_file,
            "GENQUEUE_MODELS_FILE": table,
        }
        return start_worker(**{**openai, **options})

    return start


def asked(emulator):
    """Return the models that were asked, in order, and forget them."""
    found = [request["model"] for request in emulator.stats()["requests"] if request["method"] == "POST"]
    emulator.reset_stats()
    return found


def test_the_model_chooses_the_provider_and_fallbacks_are_named(own_emulator, client, start_both):
    """One overloaded or retired is followed by the next of its chain, in the same attempt; a quota's 429 is not."""
    start_both()
    plain = client.submit("plain", model=OTHER).result(timeout=30)
    assert (plain.model.startswith(OTHER), plain.fallback_from, asked(own_emulator)) == (True, None, [OTHER])
    own_emulator.fault("status", match="overloaded", model=ASKED, status=503, times=1)
    own_emulator.fault("error_in_stream", match="overloaded", model=BETWEEN, status=503, times=1)
    job = client.submit("overloaded", model="careful")
    events, result = list(job.tail()), job.result(timeout=30)
    assert (events[1].type, events[1].fields["route"], events[1].fields["model"]) == ("started", "gemini", ASKED)
    assert (events[-1].fields["model"], events[-1].fields["fallback_from"]) == (result.model, ASKED)
    assert (result.model.startswith(OTHER), result.fallback_from, result.attempts) == (True, ASKED, 1)
    assert asked(own_emulator) == [ASKED, BETWEEN, OTHER]
    again = client.submit("overloaded", model="careful").result(timeout=30)
    assert (again.source, again.fallback_from, asked(own_emulator)) == ("live", None, [ASKED])
    own_emulator.fault("status", match="quota", model=ASKED, status=429, times=1)
    limited = client.submit("quota", model=ASKED).result(timeout=60)
    assert (limited.fallback_from, limited.attempts, asked(own_emulator)) == (None, 2, [ASKED, ASKED])
    retired = client.submit("retired", model="retired").result(timeout=30)
    assert (retired.model.startswith(OTHER), retired.fallback_from) == (True, "gemini-1.0-pro")
    asked(own_emulator)
    with pytest.raises(JobFailed, match="GENQUEUE_MODELS_FILE") as caught:
        client.submit("hello", model="claude-9").result(timeout=30)
    assert (caught.value.code, caught.value.retryable, asked(own_emulator)) == ("unknown_model", False, [])


def test_a_provider_that_refuses_the_key_holds_back_its_own_jobs_alone(own_emulator, client, start_both):
    """They end with its words while no worker is served by it, and wait for one that is; other models go on."""
    wrong = start_both(GENQUEUE_OPENAI_API_KEY="wrong-key", GENQUEUE_KEY_PATIENCE=0)
    assert "access.refused route=openai" in wrong.log()
    refused = client.submit("refused", model=OTHER)
    served = client.submit_many([{"contents": f"question {n}", "model": ASKED} for n in range(10)])
    assert [job.result(timeout=30).source for job in served] == ["live"] * 10
    with pytest.raises(JobFailed, match="API key") as caught:
        refused.result(timeout=30)
    assert caught.value.retryable
    assert "wrong-key" not in str(caught.value) + wrong.log()
    start_both()
    jobs = client.submit_many([{"contents": f"question {n}", "model": OTHER} for n in range(3)])
    assert {job.result(timeout=60).model[: len(OTHER)] for job in jobs} == {OTHER}
    assert {job.status().tries for job in jobs} == {0}
