"""How chunks become a stream's entries and, in the end, the answer."""

import pytest

from genqueue_worker.providers.seam import Chunk, Piece
from genqueue_worker.transcript import Transcript


def delta(text):
    """Return a chunk with a piece of the answer."""
    return Chunk(entries=(Piece("delta", text=text),))


def part(json, about="part"):
    """Return a chunk with a part in the provider's spelling."""
    return Chunk(entries=(Piece("part", json=json, about=about),))


def signed(text, kind="delta"):
    """Return a chunk with a text that carries a signature."""
    return Chunk(entries=(Piece(kind, text), Piece("part", json='{"thoughtSignature":"s"}', about="text")))


def again(entries):
    """Return a transcript of a replay's entries."""
    return told(
        *(Chunk((Piece(e["type"], e.get("text", ""), e.get("json", ""), e.get("about", "part")),)) for e in entries)
    )


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
        {"type": "part", "about": "part", "json": CALL},
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


def test_what_is_signed_stays_a_part_of_its_own():
    """A text with a signature is joined with neither neighbour, and gets the signature back; so does a thought."""
    transcript = told(
        signed("Hm.", "thought"),
        THOUGHT,
        delta("a"),
        delta("b"),
        signed("c"),
        delta("d"),
        delta("e"),
        part('{"text":"","thoughtSignature":"t"}'),
        Chunk(finish_reason="STOP"),
    )
    assert transcript.content()["parts"] == [
        {"text": "Hm.", "thought": True, "thoughtSignature": "s"},
        {"text": "Hm.", "thought": True},
        {"text": "ab"},
        {"text": "c", "thoughtSignature": "s"},
        {"text": "de"},
        {"text": "", "thoughtSignature": "t"},
    ]
    assert transcript.text == "abcde"
    assert again(transcript.replay()).content() == transcript.content()


def test_remarks_on_the_whole_are_no_part_of_the_turn():
    """They are streamed, and given again, but a conversation is not continued with them."""
    transcript = told(
        delta("Yes."),
        part('{"groundingMetadata":{}}', "candidate"),
        part('{"blockReason":"OTHER"}', "prompt"),
        Chunk(finish_reason="STOP"),
    )
    assert transcript.content()["parts"] == [{"text": "Yes."}]
    assert transcript.candidate() == {"groundingMetadata": {}}
    assert transcript.prompt_feedback() == {"blockReason": "OTHER"}
    entry = {"type": "part", "about": "candidate", "json": '{"groundingMetadata":{}}'}
    assert transcript.replay()[1] == entry
    assert again(transcript.replay()).candidate() == transcript.candidate()


def test_remarks_do_not_cut_a_text_in_two():
    """A provider may repeat them with every message, and the turn is the one it would have sent whole."""
    remark = part('{"avgLogprobs":-1}', "candidate")
    transcript = told(delta("Y"), remark, delta("es"), remark, Chunk(finish_reason="STOP"))
    assert transcript.content()["parts"] == [{"text": "Yes"}]
    assert [entry.get("text") for entry in transcript.replay()] == ["Yes", None, None]
    assert again(transcript.replay()).candidate() == transcript.candidate()


def test_remarks_of_several_messages_are_one():
    """What comes in pieces is put together, what is said again counts once, and further candidates are not ours."""
    transcript = told(
        part(
            '{"citationMetadata":{"citations":[{"uri":"a"}]},"avgLogprobs":-1,"logprobsResult":{"c":[{"t":1}]}}',
            "candidate",
        ),
        part(
            '{"citationMetadata":{"citations":[{"uri":"a"},{"uri":"b"}]},"logprobsResult":{"c":[{"t":1}]}}', "candidate"
        ),
        part('{"avgLogprobs":-2,"finishMessage":"why"}', "candidate"),
        part('{"index":1,"finishMessage":"other"}', "candidate"),
    )
    assert transcript.candidate() == {
        "citationMetadata": {"citations": [{"uri": "a"}, {"uri": "b"}]},
        "avgLogprobs": -2,
        "logprobsResult": {"c": [{"t": 1}, {"t": 1}]},
        "finishMessage": "why",
    }


def test_a_replay_gives_the_same_answer_in_fewer_entries():
    """Taken in again, it comes to the same turn."""
    transcript = told(THOUGHT, delta("Y"), delta("es"), part(CALL), delta("."), Chunk(finish_reason="STOP"))
    replay = transcript.replay()
    assert [entry["type"] for entry in replay] == ["thought", "delta", "part", "delta"]
    assert again(replay).content() == transcript.content()


@pytest.mark.parametrize("reason", [None, "MAX_TOKENS", "SAFETY", "RECITATION", "OTHER", "stop"])
def test_only_a_whole_answer_is_worth_giving_again(reason):
    """What was cut off is not cached."""
    assert told(delta("Yes."), Chunk(finish_reason=reason)).replay() is None


def test_an_answer_that_says_nothing_is_not_given_again():
    """Gemini ends some answers before their first word, and gives a whole one when it is asked again."""
    assert told(part('{"avgLogprobs":-1}', "candidate"), Chunk(finish_reason="STOP")).replay() is None


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


def test_a_count_that_is_none_counts_nothing():
    """What a provider miscounts does not cost the answer."""
    transcript = told(Chunk(usage={"promptTokenCount": "abc", "totalTokenCount": [1], "candidatesTokenCount": 2}))
    assert transcript.usage()["output_tokens"] == sum(transcript.usage().values()) == 2


def test_before_the_first_word_there_is_an_empty_answer():
    """Nothing was said, and the model is the one that was asked."""
    transcript = told(Chunk(block_reason="SAFETY"))
    assert (transcript.text, transcript.model, transcript.block_reason) == ("", "gemini-x", "SAFETY")
    assert transcript.content() == {"role": "model", "parts": []}
    assert set(transcript.usage().values()) == {0}
