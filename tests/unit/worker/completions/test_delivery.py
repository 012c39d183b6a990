"""When an end is told again, and what is told."""

import base64
import json
import random
from dataclasses import replace

import pytest

from genqueue.keys import Keys
from genqueue.ledger import Completion
from genqueue.payload.codec import PLAIN, Codec
from genqueue.payload.seal import KeyRing, parse_keys
from genqueue_worker.completions.delivery import Verdict, back_off, judge
from genqueue_worker.completions.messages import task_id
from genqueue_worker.completions.notice import notice
from genqueue_worker.completions.webhooks import Message, signature

JOB = "3-0123456789abcdef0123"
DONE_MS = 1_767_225_600_250
CODEC = Codec(KeyRing(parse_keys("k1:" + base64.b64encode(bytes(32)).decode())))
ENDED = Completion(
    job=JOB,
    token="t",
    flight=JOB,
    tenant="acme",
    lane="high",
    deadline_ms=DONE_MS + 1000,
    on_done='{"url":"https://example.com"}',
    traceparent="",
    state="completed",
    done_at_ms=DONE_MS,
    tries=0,
    ending=b'{"finish_reason":"STOP","usage":"{\\"total_tokens\\":3}","model":"m","source":"cache"}',
    result=b'{"text":"hi"}',
)


def test_the_back_off_doubles_up_to_two_hours():
    """5 s at first, with jitter; never over the cap, however many tries there were."""
    chance = random.Random(1)
    for tries in range(10):
        delays = [back_off(tries, chance) for _ in range(200)]
        assert 4 * 2**tries <= min(delays) < max(delays) <= 6 * 2**tries
    assert max(back_off(tries, chance) for tries in (11, 60, 10_000)) == 7200


def test_a_day_after_the_end_nobody_is_told():
    """The next try would come too late: it is given up, and said."""
    chance, end = random.Random(1), DONE_MS / 1000
    verdict = judge(ENDED, "status 500", end + 1, chance)
    assert (verdict.delivery, verdict.why) == ("failed", "status 500")
    late = replace(ENDED, tries=10)
    assert judge(late, "status 500", end + 86_400 - 4000, chance) == Verdict("dropped", "status 500")


def test_the_signature_is_that_of_the_specification():
    """The example of standardwebhooks.com, and one signature for each secret."""
    secret = base64.b64decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    message = Message("msg_p5jXN8AQM9LWM0D4loKWxJek", b'{"test": 2432232314}')
    expected = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
    assert signature([secret], message, 1_614_265_330) == expected
    assert signature([secret, b"x" * 24], message, 1_614_265_330).split()[0] == expected


def test_a_notice_says_all_about_an_answer():
    """Each field in the words of the SDK; what does not apply is null."""
    told = notice(ENDED, Keys(), PLAIN)
    assert (told["type"], told["timestamp"]) == ("job.completed", "2026-01-01T00:00:00.250Z")
    assert told["data"] == {
        "job_id": JOB,
        "state": "completed",
        "tenant": "acme",
        "lane": "high",
        "deadline": "2026-01-01T00:00:01.250Z",
        "stream_key": f"gq:{{3}}:events:{JOB}",
        "finish_reason": "STOP",
        "usage": {"total_tokens": 3},
        "model": "m",
        "source": "cache",
        "result": {"text": "hi"},
        "truncated": False,
        "code": None,
        "message": None,
        "retryable": None,
    }


def test_a_notice_says_why_there_is_no_answer():
    """The provider's words, sealed or not."""
    fields = {"code": "X", "message": "not today", "retryable": "0"}
    for codec, ending in ((PLAIN, fields), (CODEC, CODEC.seal_entry(fields))):
        failed = replace(ENDED, state="failed", result=b"", ending=json.dumps(ending).encode())
        data = notice(failed, Keys(), codec)["data"]
        assert (data["code"], data["message"], data["retryable"]) == ("X", "not today", False)
        assert (data["result"], data["truncated"]) == (None, False)


@pytest.mark.parametrize(
    "result",
    [b"", b'{"text":"' + b"x" * 262_144 + b'"}', CODEC.seal("result", b"{}")],
    ids=["absent", "long", "sealed"],
)
def test_a_result_that_cannot_be_told_is_left_out(result):
    """Too long, gone, or sealed with a key this worker does not have: the receiver asks for it."""
    data = notice(replace(ENDED, result=result), Keys(), PLAIN)["data"]
    assert (data["result"], data["truncated"]) == (None, True)


def test_a_message_has_the_same_id_again():
    """So that a double is recognised; another job's is another."""
    assert task_id(JOB) == task_id(JOB) != task_id(JOB[:-1] + "4")
