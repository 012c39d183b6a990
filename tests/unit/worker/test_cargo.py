"""Inline data from the blob store on its way to the provider."""

import asyncio
import base64
import hashlib
from contextlib import aclosing

import pytest

from genqueue.payload.blobs import blob_store_of
from genqueue.payload.codec import PLAIN
from genqueue.payload.inline import Blob
from genqueue.settings import Settings
from genqueue_worker import cargo
from genqueue_worker.cargo import Cargo, Limits, Room, plan
from genqueue_worker.documents import Unreadable
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.seam import Chunk, Piece, ProviderRequest, Route

FLIGHT = "3-" + "f" * 20
SMALL, LARGE, HUGE = b"small" * 20, b"large" * 200, b"huge!" * 2000
ROUTE = Route("gemini", "https://x", "key")
CHUNKS = [Chunk(entries=(Piece("delta", text=text),)) for text in ("a", "b")]


def part(data, tenant="acme"):
    """Return a part whose data is in the store."""
    digest = hashlib.sha256(data).hexdigest()
    blob = {"sha256": digest, "size": len(data), "tenant": tenant, "name": digest}
    return {"inlineData": {"mimeType": "image/png", "blob": blob}}


def request(*parts):
    """Return a request with some parts."""
    return ProviderRequest("m", [{"role": "user", "parts": [*parts, {"text": "What?"}]}])


class Provider:
    """Says CHUNKS, and keeps what it was given.

    Attributes:
        files: what was uploaded, by URI.
        parts: the parts of the request it was asked.
        failing: an error for the next upload.
    """

    def __init__(self):
        self.files, self.discarded, self.parts = {}, [], None
        self.failing = None

    async def stream(self, asked, _route):
        """Answer."""
        self.parts = asked.contents[0]["parts"]
        for chunk in CHUNKS:
            yield chunk

    async def upload(self, data, mime_type, _route):
        """Keep a file."""
        if self.failing is not None:
            raise self.failing
        uri = f"https://x/files/{len(self.files)}"
        self.files[uri] = (data, mime_type)
        return uri

    async def discard(self, uri, _route):
        """Drop a file."""
        self.discarded.append(uri)


class Server:
    """Says whether a request is still kept.

    Attributes:
        asked: how often it was.
    """

    def __init__(self):
        self.kept = False
        self.asked = 0

    async def hexists(self, key, field):
        """Say it."""
        assert (key.rpartition(":")[2], field) == (FLIGHT, "request")
        self.asked += 1
        return self.kept


@pytest.fixture
def store(tmp_path):
    """Make a store that has the three."""
    made = blob_store_of(Settings(blob_url=f"file://{tmp_path}"), PLAIN)
    made.put("acme", FLIGHT, [Blob(hashlib.sha256(data).hexdigest(), data) for data in (SMALL, LARGE, HUGE)])
    return made


@pytest.fixture
def carry(store, keys, make_attempt):
    """Return a cargo of a limit, and a function that runs a request by it."""

    def made(limit=100_000, held=1_000_000, store=store):
        return Cargo(store, Server(), keys, Limits(limit, held)), Provider(), make_attempt()

    return made


async def answer(hold, provider, attempt, asked):
    """Return the answer's chunks."""
    async with aclosing(hold.stream(attempt, asked, provider, ROUTE)) as chunks:
        return [chunk async for chunk in chunks]


async def test_data_is_put_back_where_it_was(carry):
    """The provider sees what the caller gave."""
    hold, provider, attempt = carry()
    assert await answer(hold, provider, attempt, request(part(SMALL), part(LARGE))) == CHUNKS
    expected = [{"mimeType": "image/png", "data": base64.b64encode(data).decode()} for data in (SMALL, LARGE)]
    assert [one.get("inlineData") for one in provider.parts] == [*expected, None]
    assert attempt.blob_folders == {"acme"}
    assert provider.files == {}


async def test_the_largest_is_uploaded_when_a_request_would_be_too_large(carry):
    """And discarded when the answer is over, or cut off."""
    hold, provider, attempt = carry(limit=3000)
    await answer(hold, provider, attempt, request(part(SMALL), part(HUGE), part(LARGE)))
    (uri,) = provider.files
    assert provider.files[uri] == (HUGE, "image/png")
    assert provider.parts[1] == {"fileData": {"mimeType": "image/png", "fileUri": uri}}
    assert base64.b64decode(provider.parts[2]["inlineData"]["data"]) == LARGE
    assert provider.discarded == [uri]
    async with aclosing(hold.stream(attempt, request(part(HUGE)), provider, ROUTE)) as chunks:
        await anext(chunks)
        assert len(provider.discarded) == 1
    assert len(provider.discarded) == 2


def test_a_plan_counts_all_of_a_request():
    """The text beside the data too."""
    asked = request(part(LARGE), {"text": "word " * 1000})
    inside, files = plan(asked, 6000)
    assert (len(inside), len(files)) == (0, 1)
    assert [len(items) for items in plan(asked, 7000)] == [1, 0]
    assert plan(request({"text": "no data"}), 10) == ([], [])


async def test_an_upload_that_fails_leaves_nothing(carry):
    """What was uploaded before it is discarded."""
    hold, provider, attempt = carry(limit=200)
    upload = provider.upload

    async def once(data, mime_type, route):
        uri = await upload(data, mime_type, route)
        provider.failing = ProviderError("UNAVAILABLE", "later", 503, retryable=True)
        return uri

    provider.upload = once
    with pytest.raises(ProviderError, match="later"):
        await answer(hold, provider, attempt, request(part(HUGE), part(LARGE), part(SMALL)))
    assert provider.discarded == list(provider.files)
    assert provider.parts is None


async def test_a_discard_that_hangs_or_fails_is_given_up(carry, monkeypatch):
    """The answer is not held up: the provider deletes files itself."""
    hold, provider, attempt = carry(limit=200)
    monkeypatch.setattr(cargo, "DISCARD_PATIENCE", 0.01)
    errors = iter([asyncio.Event().wait(), refused()])

    async def discard(_uri, _route):
        await next(errors)

    provider.discard = discard
    assert await answer(hold, provider, attempt, request(part(HUGE), part(LARGE))) == CHUNKS


async def refused():
    """Fail as a provider does."""
    raise ProviderError("NOT_FOUND", "no such file", 404)


@pytest.mark.parametrize(
    ("asked", "code", "retryable"),
    [
        (part(b"never put"), "blob_missing", False),
        (part(SMALL, tenant="other"), "blob_missing", False),
    ],
)
async def test_what_cannot_be_fetched_is_the_attempts_end(carry, asked, code, retryable):
    """With a code that says why, and no call of the provider."""
    hold, provider, attempt = carry()
    with pytest.raises(ProviderError) as caught:
        await answer(hold, provider, attempt, request(asked))
    assert (caught.value.code, caught.value.retryable) == (code, retryable)
    assert provider.parts is None


@pytest.mark.parametrize(
    ("asked", "elsewhere"),
    [
        (part(SMALL, tenant="../acme"), True),
        ({"inlineData": {"blob": {"size": 1}}}, False),
        ({"inlineData": {"blob": "x"}}, False),
    ],
)
async def test_what_refers_to_nothing_cannot_be_read(carry, asked, elsewhere):
    """Another worker may have the key of what does not open; a reference to nothing is one everywhere."""
    hold, provider, attempt = carry()
    with pytest.raises(Unreadable) as caught:
        await answer(hold, provider, attempt, request(asked))
    assert caught.value.elsewhere is elsewhere
    assert provider.parts is None


async def test_a_worker_without_a_store_says_what_is_missing(carry, tmp_path):
    """And one whose store is away; both may be better at the next try."""
    (tmp_path / "file").write_text("in the way")
    hold, provider, attempt = carry(store=None)
    with pytest.raises(ProviderError, match="GENQUEUE_BLOB_URL") as caught:
        await answer(hold, provider, attempt, request(part(SMALL)))
    assert (caught.value.code, caught.value.retryable) == ("blobs_unavailable", True)
    hold, provider, attempt = carry(store=blob_store_of(Settings(blob_url=f"file://{tmp_path}/file"), PLAIN))
    with pytest.raises(ProviderError, match="GENQUEUE_BLOB_URL") as caught:
        await answer(hold, provider, attempt, request(part(SMALL)))
    assert (caught.value.code, caught.value.retryable) == ("blobs_unavailable", True)


@pytest.mark.parametrize("kept", [True, False])
async def test_blobs_go_with_the_request(carry, store, tmp_path, kept):
    """A flight that is tried again, or failed and kept, needs them still."""
    hold, provider, attempt = carry()
    await answer(hold, provider, attempt, request(part(SMALL)))
    hold._data.kept = kept
    await hold.let_go(attempt)
    assert bool(list(store.folders())) == kept


async def test_an_attempt_without_blobs_asks_nobody(carry):
    """The hot path makes no call."""
    hold, _, attempt = carry()
    await hold.let_go(attempt)
    assert hold._data.asked == 0


async def test_room_is_bounded_and_given_in_order():
    """Who came first goes first, and one that needs more than there is goes alone."""
    room, entered = Room(10), []
    inside, leave = ({name: asyncio.Event() for name in "abcd"} for _ in range(2))

    async def enter(name, size):
        async with room.held(size):
            entered.append(name)
            inside[name].set()
            await leave[name].wait()

    async with asyncio.timeout(10), asyncio.TaskGroup() as group:
        for name, size in zip("abcd", (6, 99, 4, 1), strict=True):
            group.create_task(enter(name, size))
        for name, expected in (("a", ["a"]), ("b", ["a", "b"])):
            await inside[name].wait()
            assert entered == expected
            leave[name].set()
        leave["c"].set()
        leave["d"].set()
    assert entered == ["a", "b", "c", "d"]


async def test_a_place_in_the_row_can_be_left():
    """Those behind go on."""
    room = Room(10)
    async with room.held(10):
        first, second = (asyncio.create_task(held(room, 5)) for _ in range(2))
        _, waiting = await asyncio.wait({first, second}, timeout=0.01)
        assert waiting == {first, second}
        first.cancel()
    await second
    assert first.cancelled()
    async with room.held(10):
        assert room._taken == 10


async def held(room, size):
    """Hold some room for a moment."""
    async with room.held(size):
        pass


async def test_room_is_free_once_the_provider_has_it_all(carry):
    """While an answer streams, the next request is fetched."""
    hold, provider, attempt = carry(held=len(HUGE))
    async with (
        aclosing(hold.stream(attempt, request(part(HUGE)), provider, ROUTE)) as one,
        aclosing(hold.stream(attempt, request(part(HUGE)), provider, ROUTE)) as two,
    ):
        assert [await anext(one), await anext(two)] == CHUNKS[:1] * 2
