"""What Gemini says, in every form it has, and the ways to write it as server-sent events."""

import json

PNG = {"inlineData": {"mimeType": "image/png", "data": "iVBORw0KGgo="}}
SIGNED = {"thoughtSignature": "AQIDBA=="}


def said(*parts, finish=None, **rest):
    """Return a message with one candidate that says some parts."""
    candidate = {"content": {"role": "model", "parts": list(parts)}, **rest.pop("candidate", {})}
    return {"candidates": [candidate | ({"finishReason": finish} if finish else {})], **rest}


def call(name, args=None, **rest):
    """Return a part that calls a function."""
    return {"functionCall": {"name": name, **({"args": args} if args is not None else {}), **rest}}


def usage(written, **rest):
    """Return the counts of a message."""
    return {"usageMetadata": {"promptTokenCount": 4, "candidatesTokenCount": written, **rest}}


CITED = {"citationMetadata": {"citationSources": [{"startIndex": 0, "endIndex": 4, "uri": "https://a.test/"}]}}
CITED_BY_VERTEX = {"citationMetadata": {"citations": [{"startIndex": 0, "endIndex": 4, "uri": "https://a.test/"}]}}
GROUNDED = {
    "groundingMetadata": {
        "webSearchQueries": ["why is the sky blue\u2028"],
        "groundingChunks": [{"web": {"uri": "https://a.test/", "title": "a"}}],
        "groundingSupports": [{"segment": {"endIndex": 4, "text": "Blue"}, "groundingChunkIndices": [0]}],
        "searchEntryPoint": {"renderedContent": "<div>\r\n</div>"},
    }
}
UNSAFE = {
    "safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "HIGH", "blocked": True}],
    "finishMessage": "It was not safe.",
}
HARMLESS = {"safetyRatings": [{"category": "HARM_CATEGORY_HARASSMENT", "probability": "NEGLIGIBLE"}]}
LOGPROBS = {"avgLogprobs": -0.25, "logprobsResult": {"chosenCandidates": [{"token": "a", "logProbability": -0.5}]}}

#: The messages of whole streams, by what is in them.
CORPUS = {
    "text": [said({"text": "Blue"}), said({"text": " sky."}, finish="STOP")],
    "line separators in text": [
        said({"text": "a\u2028b\u2029c\u0085d\u000be\u001cf"}),
        said({"text": "\r\n\r\ndata: {}\n: no comment\n"}, finish="STOP"),
    ],
    "usage in several messages": [
        said({"text": "a"}, **usage(1), modelVersion="gemini-3", responseId="r"),
        said({"text": "b"}, **usage(2, totalTokenCount=6)),
        said({"text": ""}, finish="MAX_TOKENS", **usage(2, totalTokenCount=9, thoughtsTokenCount=3)),
    ],
    "counts by kind": [
        said(
            {"text": "a"},
            finish="STOP",
            **usage(
                1,
                cachedContentTokenCount=3,
                toolUsePromptTokenCount=2,
                trafficType="ON_DEMAND",
                promptTokensDetails=[{"modality": "TEXT", "tokenCount": 4}],
            ),
            createTime="2026-01-02T03:04:05.000006Z",
        )
    ],
    "thoughts and signatures": [
        said({"text": "Let me see.", "thought": True}),
        said({"text": "It is", **SIGNED}, {"text": "", **SIGNED}),
        said({"text": " so.", "thought": False}, {"text": "hm", "thought": True, **SIGNED}, finish="STOP"),
    ],
    "function calls": [
        said(
            call("weather", {"city": "Rome", "days": 2, "deep": {"snake_key": [None, True, 0.5]}}, id="1"), call("now")
        ),
        said({**call("f", {}), **SIGNED}, {"text": "!"}, finish="STOP"),
    ],
    "function calls in pieces": [
        said(call("weather", willContinue=True, id="1")),
        said(call(None, partialArgs=[{"jsonPath": "$.city", "stringValue": "Ro", "willContinue": True}])),
        said(
            call(None, partialArgs=[{"jsonPath": "$.city", "stringValue": "me"}, {"jsonPath": "$.n", "numberValue": 2}])
        ),
        said(call(None, willContinue=False), finish="STOP"),
    ],
    "inline data": [said({"text": "Here: "}, PNG), said({**PNG, "thought": True}, finish="STOP")],
    "code": [
        said({"executableCode": {"language": "PYTHON", "code": "print(1)\n"}}),
        said({"codeExecutionResult": {"outcome": "OUTCOME_OK", "output": "1\n"}}, finish="STOP"),
    ],
    "citations": [said({"text": "Blue"}), said({"text": "."}, finish="RECITATION", candidate=CITED_BY_VERTEX)],
    "grounding": [said({"text": "Blue"}, candidate=GROUNDED), said(finish="STOP", candidate=LOGPROBS)],
    "an unsafe answer": [
        said({"text": "Bl"}, candidate=HARMLESS),
        {"candidates": [{"finishReason": "SAFETY", **UNSAFE}]},
    ],
    "a blocked prompt": [
        {
            "promptFeedback": {
                "blockReason": "SAFETY",
                "blockReasonMessage": "no",
                "safetyRatings": [{"category": "HARM_CATEGORY_HATE_SPEECH", "probability": "HIGH", "blocked": True}],
            },
            **usage(0),
        }
    ],
    "several candidates": [
        {
            "candidates": [
                {"index": 0, "content": {"parts": [{"text": "a"}]}},
                {"index": 1, "content": {"parts": [PNG]}},
            ]
        },
        {"candidates": [{"index": 1, "finishReason": "STOP"}, {"index": 0, "finishReason": "STOP", **LOGPROBS}]},
    ],
    "nothing to say": [
        {},
        {"candidates": []},
        {"candidates": [{"content": {}}]},
        {"candidates": [{"content": {"role": "model", "parts": []}, "index": 0}], "new": {"field": [1]}},
        said(finish="STOP"),
    ],
}

#: What only one surface says so.
CORPUS_OF_ONE = {("gemini", "citations"): [said({"text": "Blue"}, finish="STOP", candidate=CITED)]}


def plain(end, lead="data: "):
    """Return a way to write each message as one line of data, with lines that end so."""

    def write(messages):
        return "".join(f"{lead}{json.dumps(one, ensure_ascii=False)}{end}{end}" for one in messages).encode()

    return write


def in_lines(end):
    """Return a way to write each message over several lines of data."""

    def write(messages):
        texts = (json.dumps(one, ensure_ascii=False, indent=2).split("\n") for one in messages)
        return "".join("".join(f"data: {line}{end}" for line in text) + end for text in texts).encode()

    return write


def spaced_out(messages):
    """Write empty events, of blank lines alone, before, between and after the others."""
    return b"\n\r\n" + plain("\n")(messages).replace(b"\n\n", b"\n\r\n\n\n") + b"\r\r"


def unfinished(messages):
    """Leave out the blank line behind the last event, and the end of its line."""
    return plain("\r\n")(messages).removesuffix(b"\r\n\r\n")


def escaped(messages):
    """Write nothing but ASCII."""
    return "".join(f"data: {json.dumps(one)}\r\n\r\n" for one in messages).encode()


#: Ways to write a stream that google-genai reads as the standard says.
FRAMINGS = {
    "CRLF": plain("\r\n"),
    "LF": plain("\n"),
    "CR": plain("\r"),
    "data lines, CRLF": in_lines("\r\n"),
    "data lines, CR": in_lines("\r"),
    "empty events": spaced_out,
    "no last blank line": unfinished,
    "ASCII": escaped,
}


def marked(messages):
    """Begin with a byte order mark."""
    return b"\xef\xbb\xbf" + plain("\n")(messages)


#: Ways that the standard allows and google-genai cannot read.
FRAMINGS_OF_THE_STANDARD = {
    "comments": plain("\r\n", ": ping\r\n:\r\n\r\ndata: "),
    "other fields": plain("\n", "event: message\nid: 7\nretry: 10\ndata: "),
    "byte order mark": marked,
    "no space": plain("\n", "data:"),
}
