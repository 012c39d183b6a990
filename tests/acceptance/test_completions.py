"""A job's end told by real workers: to a receiver of webhooks, and to the Celery worker of another service."""

import asyncio
import base64
import json
import subprocess
import sys

import pytest
import redis
from webhook_receiver import Receiver

from genqueue import AsyncClient
from genqueue_lab.certificates import ensure_certificates

MODEL = "gemini-2.5-flash"
SECRET = bytes(range(32))

#: Another service, as its own code would be.
SERVICE = """
import celery, json, redis
app = celery.Celery("billing", broker="{url}")

@app.task(name="billing.note", bind=True)
def note(self, job, account):
    redis.Redis.from_url("{url}").rpush("noted", json.dumps([job, account, self.request.id]))
"""


@pytest.fixture
def service(own_server, tmp_path):
    """Run the Celery worker of another service; returns its module's signature as its own code would make it."""
    (tmp_path / "billing.py").write_text(SERVICE.format(url=own_server.url()))
    command = [sys.executable, "-m", "celery", "-A", "billing", "worker", "-P", "solo", "-Q", "billing", "-l", "INFO"]
    with (tmp_path / "billing.log").open("wb") as log:
        process = subprocess.Popen(command, cwd=tmp_path, stdout=log, stderr=subprocess.STDOUT)
    yield {"task": "billing.note", "args": ["account-1"], "options": {"queue": "billing"}}
    process.kill()
    process.wait()


async def test_ends_are_told(own_server, start_worker, service, tmp_path):
    """The receiver gets a signed webhook with the answer, the other service's task is run with it."""
    certificates = ensure_certificates(tmp_path / "receiver")
    environment = {
        "GENQUEUE_WEBHOOK_SECRETS": f"whsec_{base64.b64encode(SECRET).decode()}",
        "GENQUEUE_WEBHOOK_NETWORKS": "127.0.0.0/8,::1/128",
        "GENQUEUE_WEBHOOK_CA_FILE": certificates.ca_file,
    }
    async with Receiver(certificates.server_context()) as receiver, AsyncClient(data_url=own_server.url()) as client:
        await asyncio.to_thread(start_worker, **environment)
        job = await client.submit("Name a river.", model=MODEL, on_done=receiver.url())
        answer = await job.result(timeout=30)
        received = await asyncio.wait_for(receiver.received.get(), 30)
        assert received.signed_with(SECRET)
        data = received.payload["data"]
        assert (data["job_id"], data["result"]["text"], data["source"]) == (job.id, answer.text, "live")
        again = await client.submit("Name a river.", model=MODEL, on_done=service)
        with redis.Redis.from_url(own_server.url()) as raw:
            noted = json.loads((await asyncio.to_thread(raw.blpop, "noted", 30))[1])
    assert (noted[0]["job_id"], noted[0]["source"], noted[1]) == (again.id, "cache", "account-1")
