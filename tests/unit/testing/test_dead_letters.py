"""Dead letters on a server in memory: many of them, sealed ones, and such with inline data."""

import base64
import secrets
from dataclasses import asdict, replace

import pytest

from genqueue import dead
from genqueue.errors import BlobsUnavailable, InvalidRequest, PayloadUnreadable, SettingsError
from genqueue.testing import MemoryClient, fail, hold, lose, retry

MODEL = "gemini-2.5-flash"
DEAD = fail("UNAVAILABLE", "The model is overloaded.", retryable=True)
PICTURE = base64.b64encode(b"a picture").decode()
ASKED = [{"inline_data": {"mime_type": "image/png", "data": PICTURE}}, "What is it?"]


def keys(*names):
    """Return payload keys of these names."""
    return ",".join(f"{name}:{base64.b64encode(secrets.token_bytes(32)).decode()}" for name in names)


@pytest.fixture
def client():
    """Make a client in memory."""
    with MemoryClient(partitions=3) as made:
        yield made


@pytest.fixture
def stored(tmp_path):
    """Make a client whose inline data is in files, and return it with their directory."""
    with MemoryClient(blob_url=f"file://{tmp_path}/blobs", blob_threshold=4) as made:
        yield made, tmp_path / "blobs"


def test_letters_come_newest_first_from_all_partitions(client, monkeypatch):
    """However they lie there and however many one look returns; a tenant sees its own jobs alone."""
    monkeypatch.setattr(dead, "PAGE", 2)
    client.default = DEAD
    tenants = ["acme", "other", "acme", "acme", "other", "acme", "acme", "other", "acme"]
    jobs = []
    for number, tenant in enumerate(tenants):
        jobs.append(client.submit(f"question {number}", model=MODEL, tenant=tenant).id)
        client.advance(1)
    newest = jobs[::-1]
    assert [letter.job_id for letter in client.dead()] == newest
    assert [letter.job_id for letter in client.dead(5)] == newest[:5]
    acme = [job for job, tenant in zip(jobs, tenants, strict=True) if tenant == "acme"][::-1]
    assert [letter.job_id for letter in client.dead(tenant="acme")] == acme
    assert [letter.job_id for letter in client.dead(2, "acme")] == acme[:2]
    client.advance(14 * 86_400)
    assert client.dead() == []
    for limit in (0, True, "5", dead.MAX_LIMIT + 1):
        with pytest.raises(InvalidRequest, match="limit"):
            client.dead(limit)
    with pytest.raises(InvalidRequest, match="tenant"):
        client.dead(tenant=5)


def test_letters_that_come_during_a_list_double_none(monkeypatch):
    """They move the others, of which the next look then finds some again."""
    monkeypatch.setattr(dead, "PAGE", 2)
    read = dead._read
    with MemoryClient(partitions=1) as client:
        client.default = DEAD

        def bury(number):
            client.advance(1)
            return client.submit(f"question {number}", model=MODEL).id

        def read_while_others_come(*arguments):
            bury(-len(client.requests))
            bury(-len(client.requests))
            return (yield from read(*arguments))

        jobs = [bury(number) for number in range(5)]
        monkeypatch.setattr(dead, "_read", read_while_others_come)
        assert [letter.job_id for letter in client.dead()] == jobs[::-1]


def test_a_letter_of_two_tenants_is_each_ones(client):
    """Each is listed with its own job; a replay is for the tenant of the job that was named, as widely shared."""
    client.script([hold(), DEAD], hold(), "Yes.")
    jobs = [client.submit("What?", model=MODEL, tenant=tenant, share="global") for tenant in ("acme", "other")]
    client.release()
    assert [set(letter.job_ids) for letter in client.dead()] == [{job.id for job in jobs}]
    for job, tenant in zip(jobs, ("acme", "other"), strict=True):
        assert [letter.job_ids for letter in client.dead(tenant=tenant)] == [(job.id,)]
    replays = [client.replay(job.id) for job in jobs]
    assert [job.status().tenant for job in replays] == ["acme", "other"]
    assert replays[0].status().flight == replays[1].status().flight


def test_lost_workers_are_in_the_history(client):
    """Two among others, then two alone, which is the end."""
    client.script(["Ye", lose(), lose(), lose(), lose()])
    (letter,) = (client.dead_letter(client.submit("What?", model=MODEL).id),)
    assert (letter.code, letter.losses, letter.attempts) == ("worker_lost", 4, 4)
    assert [one.outcome for one in letter.history] == ["lost"] * 4


def test_a_sealed_letter_opens_with_its_key_alone():
    """Without it the letter is there all the same, and says which key it takes."""
    with MemoryClient(payload_keys=keys("k1")) as client:
        client.script([retry("A", "secret one"), DEAD], "Yes.")
        job = client.submit("secret two", model=MODEL)
        letter = client.dead_letter(job.id, with_request=True)
        assert [one.message for one in letter.history] == ["secret one", "The model is overloaded."]
        assert "secret two" in str(letter.request)
        assert "secret" not in str(client.server.redis.hgetall(client.server.keys.flight(letter.flight)))
        client._intake.codec._ring, ring = None, client._intake.codec._ring
        (found,) = client.dead()
        assert (found.code, [one.code for one in found.history]) == ("UNAVAILABLE", ["A", "UNAVAILABLE"])
        assert "k1" in found.message
        assert "k1" in found.history[0].message
        with pytest.raises(PayloadUnreadable, match="k1"):
            client.replay(job.id)
        client._intake.codec._ring = ring
        assert client.replay(job.id).text() == "Yes."


def test_a_replay_has_its_own_inline_data(stored):
    """It survives the dead letter, whose own goes with it."""
    client, directory = stored
    client.script(DEAD)
    job = client.submit(ASKED, model=MODEL)
    letter = client.dead_letter(job.id, with_request=True)
    assert PICTURE not in str(letter.request)
    client.hold()
    again = client.replay(job.id)
    assert client.requests[-1].document["contents"][0]["parts"][0]["inlineData"]["blob"]["size"] == 9
    folders = {path.parent.name: path.read_bytes() for path in directory.rglob("*") if path.is_file()}
    assert folders == {letter.flight: b"a picture", again.status().flight: b"a picture"}
    assert client.drop(job.id) is True
    client.purge(job.id)
    (left,) = (path for path in directory.rglob("*") if path.is_file())
    assert left.parent.name == again.status().flight
    # the same question in the same words: whoever asks it once more joins
    assert client.submit(ASKED, model=MODEL).status().flight == again.status().flight


def test_inline_data_that_is_gone_stops_a_replay(stored, monkeypatch):
    """As does a store nobody named, or that is away; what is dropped all the same is dropped."""
    client, directory = stored
    client.script(DEAD)
    job = client.submit(ASKED, model=MODEL)
    (path,) = (path for path in directory.rglob("*") if path.is_file())
    path.unlink()
    with pytest.raises(PayloadUnreadable, match=r"9 bytes .* is not in the blob store any more"):
        client.replay(job.id)
    with monkeypatch.context() as patched:
        patched.setattr(client, "_intake", replace(client._intake, blobs=None))
        with pytest.raises(SettingsError, match="GENQUEUE_BLOB_URL"):
            client.replay(job.id)

    def away(*_):
        raise BlobsUnavailable("files", "away")

    monkeypatch.setattr(client._intake.blobs, "delete", away)
    assert client.drop(job.id) is True


def test_a_letter_as_data_has_no_prompt(client):
    """Unless it was asked for."""
    client.script(DEAD)
    job = client.submit("a secret", model=MODEL)
    (letter,) = client.dead()
    assert "a secret" not in str(asdict(letter))
    assert "a secret" not in repr(client.dead_letter(job.id, with_request=True))


def test_a_replay_is_none_of_the_jobs_aboard(client):
    """The same request under their ids would be one of them, and nothing would be tried again."""
    client.script([hold(), DEAD])
    jobs = [client.submit("What?", model=MODEL) for _ in range(2)]
    client.release()
    for job in jobs:
        with pytest.raises(InvalidRequest, match=r"job_id.*the id of a new job"):
            client.replay(jobs[0].id, job_id=job.id)


def test_a_replay_may_not_go_on_where_the_request_is_not_plain(client):
    """The option is checked against the request that is kept."""
    client.script(DEAD)
    job = client.submit(ASKED, model=MODEL)
    with pytest.raises(InvalidRequest, match=r"^on_interrupt"):
        client.replay(job.id, on_interrupt="continue")
