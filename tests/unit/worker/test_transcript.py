"""How chunks become a stream's entries and, in the end, the answer."""

import pytest

from genqueue_worker.providers.seam import Chunk, Piece
from genqueue_worker.transcript import Transcript


def delta(text):
    """Return a chunk with a piece of the answer."""
    return Chunk(entries=(Piece("delta", text=text),))


def part(json):
    """Return a chunk with a part in the provider's spelling."""
    return Chunk(entries=(Piece("part", json=json),))


THOUGHT = Chunk(entries=(Piece("thought", text="Hm."),))
CALL = '{"functionCall":{"name":"f"}}'


def told(*chunks):
    """Return a transcript of chunks."""
    transcript = Transcript("gemini-x")
    for chunk in chunks:
        transcript.take(chunk)
    return transcript


def test_each_piece_is_an_entry_at_once():
    """In order, by its kind; a chunk without any makes none."""
    transcript = Transcript("gemini-x")
    pieces = (Piece("thought", text="Hm."), Piece("delta", text="Yes"), Piece("part", json=CALL))
    assert transcript.take(Chunk(entries=pieces)) == [
        {"type": "thought", "text": "Hm."},
        {"type": "delta", "text": "Yes"},
        {"type": "part", "json": CALL},
    ]
    assert transcript.take(Chunk(finish_reason="STOP")) == []


def test_the_turn_joins_neighbours_of_a_kind():
    """Texts between which nothing else came are one part; thoughts are marked; other parts stay as they came."""
    transcript = told(THOUGHT, THOUGHT, delta("Y"), delta("es"), part(CALL), delta("."), part(CALL), part(CALL))
    call = {"functionCall": {"name": "f"}}
    assert transcript.content() == {
        "role": "model",
        "parts": [{"text": "Hm.Hm.", "thought": True}, {"text": "Yes"}, call, {"text": "."}, call, call],
    }
    assert transcript.text == "Yes."


def test_remarks_on_the_candidate_are_no_part_of_the_turn():
    """They are streamed, and given again, but a conversation is not continued with them."""
    remark = '{"candidate":{"groundingMetadata":{}}}'
    transcript = told(delta("Yes."), part(remark), Chunk(finish_reason="STOP"))
    assert transcript.content()["parts"] == [{"text": "Yes."}]
    assert transcript.replay()[-1] == {"type": "part", "json": remark}


def test_a_replay_gives_the_same_answer_in_fewer_entries():
    """Taken in again, it comes to the same turn."""
    transcript = told(THOUGHT, delta("Y"), delta("es"), part(CALL), delta("."), Chunk(finish_reason="STOP"))
    replay = transcript.replay()
    assert [entry["type"] for entry in replay] == ["thought", "delta", "part", "delta"]
    again = told(*(Chunk(entries=(Piece(e["type"], text=e.get("text", ""), json=e.get("json", "")),)) for e in replay))
    assert again.content() == transcript.content()


@pytest.mark.parametrize("reason", [None, "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "stop"])
def test_only_a_whole_answer_is_worth_giving_again(reason):
    """What was cut off is not cached."""
    assert told(delta("Yes."), Chunk(finish_reason=reason)).replay() is None


def test_the_last_word_counts():
    """Usage, version and finish reason are cumulative; a chunk without them changes nothing."""
    transcript = told(
        Chunk(usage={"promptTokenCount": 3, "candidatesTokenCount": 1}, model_version="gemini-x-001"),
        Chunk(usage={"promptTokenCount": 3, "candidatesTokenCount": 9, "totalTokenCount": 12}, finish_reason="STOP"),
        Chunk(),
    )
    assert transcript.usage() == {
        "prompt_tokens": 3,
        "output_tokens": 9,
        "thought_tokens": 0,
        "cached_tokens": 0,
        "total_tokens": 12,
    }
    assert (transcript.model, transcript.finish_reason, transcript.block_reason) == ("gemini-x-001", "STOP", None)


def test_before_the_first_word_there_is_an_empty_answer():
    """Nothing was said, and the model is the one that was asked."""
    transcript = told(Chunk(block_reason="SAFETY"))
    assert (transcript.text, transcript.model, transcript.block_reason) == ("", "gemini-x", "SAFETY")
    assert transcript.content() == {"role": "model", "parts": []}
    assert set(transcript.usage().values()) == {0}
