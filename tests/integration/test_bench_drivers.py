"""The processes that send a benchmark's load, and the environments of other queues."""

import pytest
from redis.asyncio import Redis

from genqueue_lab.bench.drivers import Driver, DriverEnded, Recipe
from genqueue_lab.bench.load import Plan
from genqueue_lab.peers import environments
from genqueue_lab.peers.environments import pythons
from genqueue_lab.peers.reading import follow


def test_a_driver_sends_what_is_planned(emulator):
    """And tells what its readers saw of each job."""
    config = {"url": emulator.url, "ca_file": str(emulator.ca_file), "model": "gemini-2.5-flash"}
    with Driver(Recipe("genqueue_lab.bench.series.floor", config)) as driver:
        driver.wait_ready()
        recording = driver.run(Plan((0.0, 0.01), "hello"))
        assert recording.failed == []
        assert (len(recording.first), len(recording.total)) == (2, 2)
        assert recording.deltas == len(recording.gaps) + 2


def test_a_driver_that_cannot_start_says_why():
    """With the end of what it printed."""
    with (
        Driver(Recipe("genqueue_lab.bench.series.nowhere", {})) as driver,
        pytest.raises(DriverEnded, match="ModuleNotFoundError"),
    ):
        driver.wait_ready()


async def test_a_reader_follows_a_stream_to_its_end(database_url):
    """Each delta is one moment; a failure is raised."""
    async with Redis.from_url(database_url) as database:
        for job, end in (("good", "completed"), ("bad", "failed")):
            for kind in ("delta", "delta", end):
                await database.xadd(job, {"type": kind})
        assert [moment async for moment in follow(database, "good")] == [None, None]
        with pytest.raises(RuntimeError, match="failed"):
            [moment async for moment in follow(database, "bad")]


def test_a_peer_that_cannot_be_installed_is_left_out(monkeypatch, tmp_path):
    """With the reason; the others are there, and are not installed again."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setattr(environments, "_HERE", tmp_path)
    monkeypatch.setattr(environments, "PEERS", ("empty", "absent"))
    (tmp_path / "empty.txt").write_text("")
    (tmp_path / "absent.txt").write_text("genqueue-no-such-peer==1.0\n")
    said = []
    found, missing = pythons(said.append)
    assert list(found) == ["empty"]
    assert "genqueue-no-such-peer" in missing["absent"]
    assert len(said) == 2
    pythons(said.append)
    assert len(said) == 3
