"""What acceptance tests ask for: workers as processes, and clients of the same server."""

import pytest
from acceptance_workers import WorkerProcess

from genqueue import Client


@pytest.fixture
def start_worker(own_server, own_emulator, tmp_path):
    """Start workers on the test's own server and emulator; all are ended afterwards."""
    started = []

    def start(*, ready=True, emulator=own_emulator, **options):
        worker = WorkerProcess(tmp_path, own_server.url(), emulator, **options)
        started.append(worker)
        return worker.start(ready=ready)

    yield start
    for worker in started:
        if worker.process is not None and worker.process.poll() is None:
            worker.kill()


@pytest.fixture
def client(own_server):
    """Make a blocking client of the test's own server."""
    with Client(data_url=own_server.url()) as made:
        yield made
