"""What guards ask for."""

import os

import pytest
from acceptance_workers import WorkerProcess


@pytest.fixture
def deployment(own_server, emulator, tmp_path):
    """Return the environment of a producer on a server with a worker and the emulator."""
    worker = WorkerProcess(tmp_path, own_server.url(), emulator)
    try:
        worker.start()
        yield {**os.environ, "GENQUEUE_DATA_URL": own_server.url()}
    finally:
        worker.kill()
