"""An answer that is cut off and gone on with, over a real worker, with everything sealed."""

import base64
import os

import pytest

from genqueue import Client

MODEL = "gemini-2.5-flash"
KEYS = "k1:" + base64.b64encode(os.urandom(32)).decode()


@pytest.fixture
def client(own_server):
    """Make a client that seals what it stores."""
    with Client(data_url=own_server.url(), payload_keys=KEYS) as made:
        yield made


def test_an_answer_cut_twice_is_gone_on_with(own_emulator, client, start_worker):
    """Nothing shown is lost or comes twice, the model is given its own words, and the answer is not kept for others."""
    worker = start_worker(GENQUEUE_PAYLOAD_KEYS=KEYS, GENQUEUE_TOKEN_TIMEOUT="60,high=0.5")
    own_emulator.set(tokens=12)
    own_emulator.fault("stall", match="continued", after=3, times=1)
    own_emulator.fault("truncate", match="continued", after=2, times=1, whole=True)
    job = client.submit("continued", model=MODEL, lane="high", on_interrupt="continue")
    events = list(job.tail(timeout=30))
    result = job.result()
    shown = "".join(event.text for event in events if event.type == "delta")
    assert [event.type for event in events if event.type in {"continued", "restarted"}] == ["continued"] * 2
    assert [event.fields["code"] for event in events if event.type == "waiting"] == [
        "token_timeout",
        "truncated_stream",
    ]
    assert result.text == shown == result.content["parts"][0]["text"]
    assert (result.continued, result.attempts, events[-1].fields["continued"]) == (2, 3, "2")
    pieces = [[event.text for event in events if (event.type, event.attempt) == ("delta", number)] for number in (1, 2)]
    given = [body["contents"][1]["parts"][0]["text"] for body in own_emulator.bodies() if len(body["contents"]) == 3]
    assert given == ["".join(pieces[0]), "".join(pieces[0] + pieces[1])]
    assert client.submit("continued", model=MODEL).result(timeout=30).source == "live"
    assert "attempt.crashed" not in worker.log()
