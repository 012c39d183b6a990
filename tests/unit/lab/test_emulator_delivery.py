import asyncio
import json
import time

import msgspec

from genqueue_lab.emulator.answers import Answer, Piece
from genqueue_lab.emulator.delivery import Reply, stream, whole
from genqueue_lab.emulator.exchange import Request
from genqueue_lab.emulator.options import Pace
from genqueue_lab.emulator.stats import RequestRecord
from genqueue_lab.emulator.timeline import Timeline

AT_ONCE = Pace(ttft=0, tpot=0)


class Recorder:
    """An exchange that keeps what is sent."""

    def __init__(self, target="/x?alt=sse"):
        self.request = Request("POST", target, {}, received=time.monotonic())
        self.record = RequestRecord(1, 1, "h2", "POST", "/x")
        self.status, self.headers, self.sent, self.ended = None, None, [], False

    def start(self, status, headers):
        """Keep the head."""
        self.status, self.headers = status, dict(headers)

    async def send(self, data):
        """Keep a piece."""
        self.sent.append(data)

    async def end(self):
        """Note the end."""
        self.ended = True


def reply(*pieces, finish_reason="STOP"):
    """Return a reply of some pieces."""
    return Reply(Answer(list(pieces), finish_reason), "gemini-2.5-flash", 3, "standard", response_id="r")


def words(*texts):
    """Return a piece for each text."""
    return [Piece({"text": text}) for text in texts]


def events(recorder):
    """Return the JSON of each event sent."""
    return [json.loads(data.removeprefix(b"data: ")) for data in recorder.sent]


async def test_each_chunk_is_one_event_with_counts_so_far():
    """Server-sent events carry the text, cumulative usage, and the finish reason in the last one only."""
    recorder = Recorder()
    await stream(recorder, reply(*words("One", " two"), finish_reason="MAX_TOKENS"), AT_ONCE, [("server", "x")])
    assert recorder.headers == {"content-type": "text/event-stream", "server": "x"}
    assert all(data.startswith(b"data: {") and data.endswith(b"}\r\n\r\n") for data in recorder.sent)
    first, last = events(recorder)
    assert first == {
        "candidates": [{"content": {"parts": [{"text": "One"}], "role": "model"}, "index": 0}],
        "usageMetadata": {
            "promptTokenCount": 3,
            "candidatesTokenCount": 1,
            "totalTokenCount": 4,
            "promptTokensDetails": [{"modality": "TEXT", "tokenCount": 3}],
            "serviceTier": "standard",
        },
        "modelVersion": "gemini-2.5-flash",
        "responseId": "r",
    }
    assert last["candidates"][0]["finishReason"] == "MAX_TOKENS"
    assert last["usageMetadata"]["totalTokenCount"] == 5
    assert (recorder.ended, recorder.record.chunks, recorder.record.status) == (True, 2, 200)


async def test_without_sse_the_stream_is_one_json_array():
    """Without alt=sse the body is a JSON array that grows by an element for each chunk."""
    recorder = Recorder("/x")
    await stream(recorder, reply(*words("One", " two", ".")), AT_ONCE, [])
    assert recorder.headers["content-type"] == "application/json; charset=UTF-8"
    assert len(json.loads(b"".join(recorder.sent))) == 3
    assert recorder.sent[0].startswith(b'[{"candidates"')


async def test_tokens_can_be_sent_together():
    """With tokens_per_chunk a chunk joins neighbouring texts but never a thought and an answer."""
    pieces = [Piece({"text": "Hm", "thought": True}), *words("a", "b", "c")]
    recorder = Recorder()
    await stream(recorder, reply(*pieces), Pace(ttft=0, tpot=0, tokens_per_chunk=3), [])
    first, last = events(recorder)
    assert first["candidates"][0]["content"]["parts"] == [{"text": "Hm", "thought": True}, {"text": "ab"}]
    assert first["usageMetadata"]["thoughtsTokenCount"] == 1
    assert last["usageMetadata"]["candidatesTokenCount"] == 3
    assert last["usageMetadata"]["totalTokenCount"] == 7


async def test_an_empty_answer_still_ends():
    """An answer of nothing is one chunk with an empty content and no candidatesTokenCount, as the API sends it."""
    recorder = Recorder()
    await stream(recorder, reply(), AT_ONCE, [])
    (only,) = events(recorder)
    assert only["candidates"] == [{"content": {}, "finishReason": "STOP", "index": 0}]
    assert "candidatesTokenCount" not in only["usageMetadata"]


async def test_a_whole_answer_comes_in_one_piece():
    """The method generateContent sends one indented document with its length."""
    recorder = Recorder()
    await whole(recorder, reply(*words("One", " two")), AT_ONCE, [])
    (body,) = recorder.sent
    assert json.loads(body)["candidates"][0]["content"]["parts"] == [{"text": "One two"}]
    assert recorder.headers["content-length"] == str(len(body))
    assert body == msgspec.json.format(body, indent=2)


async def test_due_times_do_not_drift():
    """A wait for token n ends at start + ttft + n * tpot, however late the waits before were; never early."""
    start = time.monotonic()
    timeline = Timeline(start, Pace(ttft=0.01, tpot=0.005))
    for token in range(8):
        lag = await timeline.until(token)
        assert lag >= 0
        assert time.monotonic() - start >= 0.01 + token * 0.005
    late = Timeline(start - 10, Pace(ttft=0.01, tpot=0.005))
    assert await late.until(0) >= 9.99


async def test_a_late_stream_still_lets_others_run():
    """Every wait yields to the loop, so a stream without a pace cannot starve the rest."""
    one, two = Recorder(), Recorder()
    sent = one.sent = two.sent = []
    await asyncio.gather(
        stream(one, reply(*words("a", "a", "a")), AT_ONCE, []), stream(two, reply(*words("b", "b", "b")), AT_ONCE, [])
    )
    assert [json.loads(data[6:])["candidates"][0]["content"]["parts"][0]["text"] for data in sent] == list("ababab")
