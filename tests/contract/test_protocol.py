"""ops/protocol.md, the schemas and the code say the same."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from tests.integration.ledger_desk import POLICY

from genqueue import events
from genqueue.keys import Keys
from genqueue.payload.codec import codec_of
from genqueue.result import ENDED
from genqueue.settings import Settings

from .golden_streams import load
from .schemas import PROTOCOL, SCHEMAS, event_fields, validate_event

TEXT = PROTOCOL.read_text()
LUA = Path(events.__file__).parent / "lua"
SEALED = {"sealed"}


def rows(text, start):
    """Return the cells of a Markdown table's rows, from the line that starts with `start` on."""
    lines = text[text.index(start) :].splitlines()
    table = lines[: next((at for at, line in enumerate(lines) if not line.startswith("|")), None)]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table[2:]]


def test_event_tables_agree():
    """The protocol, the docstring of events.py and the schema name the same types with the same fields."""
    published = {cells[0].strip("`"): set(re.findall(r"`(\w+)`", cells[1])) for cells in rows(TEXT, "| type | fields")}
    documented = {
        kind.strip(): set(re.findall(r"\b(?!perhaps\b)[a-z_]+\b", re.sub(r"\(.*?\)", "", cells[1])))
        for cells in rows(events.__doc__, "| type  ")
        for kind in cells[0].split(",")
    }
    assert published == documented == {kind: fields - SEALED for kind, fields in event_fields().items()}


def test_schemas_are_schemas():
    """Each is valid, and the protocol links to it."""
    for name, schema in SCHEMAS.items():
        Draft202012Validator.check_schema(schema)
        assert f"(protocol/{name}.schema.json)" in TEXT


@pytest.mark.parametrize(
    "golden", [one for one in load().values() if one.name != "later_version"], ids=lambda o: o.name
)
def test_golden_streams_are_as_the_schema_says(golden):
    """Entry by entry, sealed and opened."""
    assert golden.entries or golden.end == "gone"
    for entry, fields in golden.entries.items():
        validate_event(fields)
        validate_event(golden.opened.get(entry, fields))


def test_scripts_write_what_is_published():
    """Every type, reason and state that a script spells is in the protocol."""
    scripts = "".join(path.read_text() for path in LUA.glob("*.lua"))
    types = set(re.findall(r"'type', '(\w+)'", scripts)) | events.TERMINAL
    assert types <= event_fields().keys()
    reasons = set(re.findall(r"end_attempt\(flight, '(\w+)'\)|'reason', '(\w+)'|depart\(\w+, \w+, '(\w+)'", scripts))
    words = {word for group in reasons for word in group if word}
    assert {"lost", "retry", "interrupted", "lifted", "expired"} <= words
    assert not [word for word in words if f"`{word}`" not in TEXT]
    assert set(SCHEMAS["flight"]["properties"]["state"]["enum"]) == ENDED | {"queued", "running", "waiting"}


def test_worked_example_opens():
    """The frame in the protocol is what our codec seals: it opens with the key given there, and ours look the same."""
    key_id = re.search(r"With the id `(\w+)`", TEXT)[1]
    secret = bytes.fromhex(re.search(r"`([0-9a-f]{32})` \(hex\)", TEXT)[1])
    frame, said = re.search(r"`([A-Za-z0-9+/=]+)`\s+opens\s+to\s+`(\{.*?\})`", TEXT).groups()
    codec = codec_of(Settings(payload_keys=f"{key_id}:{base64.b64encode(secret).decode()}"))
    assert codec.open("event", base64.b64decode(frame)) == said.encode()
    assert codec.open_entry({"type": "delta", "sealed": frame}) == {"type": "delta", **json.loads(said)}
    ours = base64.b64decode(codec.seal_entry(json.loads(said))["sealed"])
    assert len(ours) == len(base64.b64decode(frame))
    assert ours[:4] == base64.b64decode(frame)[:4] == b"e\x02k1"


def test_keys_are_as_they_are_spelled():
    """The keys that a reader may touch are those of keys.py; their public fields are those of the schemas."""
    keys, some = Keys(), f"17-{'0' * 20}"
    table = {cells[0].strip("`"): cells[2] for cells in rows(TEXT, "| key | read with")}
    spelled = [keys.events(some), keys.job(some), keys.flight(some), keys.bell(some)]
    spelled += [f"{keys.slot(17)}finished", keys.meta()]
    assert [re.sub("<.*>", some, key) for key in table] == spelled
    for name in ("job", "flight"):
        assert set(re.findall(r"`(\w+)`", table[f"gq:{{17}}:{name}:<{name}>"])) == set(SCHEMAS[name]["properties"])
    kinds = set(
        re.findall(r"`(\w+)`", TEXT[TEXT.index("gets an entry for every job that ends") :].split("Services")[0])
    )
    assert kinds == set(SCHEMAS["finished"]["properties"])


def test_times_to_live(desk):
    """Keys live as long as the protocol says: while their flight lives, and after its end."""
    policy = replace(POLICY, stream_ttl_ms=20_000, keep_ms=50_000, cache_ttl_ms=30_000, dead_ttl_ms=90_000)
    deadline = 60_000
    for outcome, kept in (("succeeded", 50_000), ("failed", 90_000)):
        job = desk.submission(policy=policy, fingerprint="", deadline_ms=desk.now + deadline)
        reply = desk.submit(job)
        stream, flight = desk.keys.events(reply.flight), desk.keys.flight(reply.flight)
        before = desk.times_to_live()
        assert [round(before[key], -3) for key in (stream, flight)] == [deadline + 50_000] * 2
        assert round(before[desk.keys.job(job.job)], -3) == deadline + 50_000
        desk.claim(reply.flight, reply.stamp)
        desk.settle(reply.flight, outcome)
        after = desk.times_to_live()
        assert [round(after[key], -3) for key in (stream, flight)] == [20_000, kept]
        assert after[desk.keys.job(job.job)] >= after[flight]
    assert 0 <= 7 * 86_400_000 - desk.times_to_live()[f"{desk.slot}finished"] < 10_000


def test_defaults_are_named():
    """The times to live in the protocol are the defaults of the settings."""
    settings = Settings()
    assert (settings.stream_ttl, settings.result_ttl, settings.dead_ttl) == (3600, 24 * 3600, 14 * 24 * 3600)
    for text in ("`stream_ttl` (1 h)", "`result_ttl` (24 h)", "`dead_ttl` (14 days)"):
        assert text in TEXT
