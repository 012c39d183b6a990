"""compose.yaml: what it says, and that the very commands and health checks it names work as plain processes."""

import re

import pytest
import redis
from acceptance_workers import wait_until
from compose_stack import ROOT, SECRETS, SOURCE, VARIABLE, Stack, quantity, substituted, texts
from flower.options import default_options

from genqueue import Client
from genqueue.lanes import LANES
from genqueue_worker.cancellation import CLEANUP_GRACE
from genqueue_worker.pool import LIFESPAN_GRACE
from genqueue_worker.settings import WorkerSettings

#: Variables of .env.example with the values it shows.
DOCUMENTED = dict(re.findall(r"^(\w+)=(.*)$", (ROOT / ".env.example").read_text(), re.MULTILINE))
WORKERS = [f"worker-{lane}" for lane in LANES]


@pytest.fixture(scope="module")
def stack(tmp_path_factory, server, emulator):
    """The whole deployment, healthy."""
    running = Stack(tmp_path_factory.mktemp("stack"), server.binary, emulator)
    try:
        running.start("redis")
        running.wait_healthy("redis")
        running.start(*WORKERS, "flower")
        running.wait_healthy(*WORKERS, "flower")
        yield running
    finally:
        running.close()


@pytest.fixture
def client(stack):
    """A producer on the deployment's server."""
    with Client(data_url=stack.environment("flower")["GENQUEUE_DATA_URL"]) as made:
        yield made


def test_server_runs_as_the_ledger_asks(stack):
    """The flags reach the server: every write is kept, nothing is evicted, streams are small."""
    with redis.Redis(port=stack.ports["redis"], decode_responses=True) as server:
        names = ("appendonly", "maxmemory-policy", "stream-node-max-bytes", "save")
        assert server.config_get(*names) == dict(zip(names, ("yes", "noeviction", "512", ""), strict=True))
        assert int(server.config_get("maxmemory")["maxmemory"]) > 0


def test_each_lane_is_answered_by_its_own_worker(stack, client):
    """A job of each lane gets its answer, and Flower shows it done by that lane's worker."""
    jobs = {lane: client.submit(f"Hello from {lane}", model="gemini-3-pro-preview", lane=lane) for lane in LANES}
    assert all(job.text(timeout=20) for job in jobs.values())
    flights = {job.stream_key.rpartition(":")[2]: lane for lane, job in jobs.items()}

    def done():
        tasks = stack.flower("/api/tasks?state=SUCCESS").json().values()
        by = {flights[flight]: task["worker"] for task in tasks for flight in flights if flight in task["args"]}
        return len(by) == len(LANES) and by

    by = wait_until(done, what="three finished tasks in Flower")
    assert all(worker.startswith(f"worker-{lane}-") for lane, worker in by.items())


def test_flower_answers_only_with_the_password(stack):
    """Pages and the API are closed to a wrong password, and open with the right one."""
    for path in ("/", "/workers", "/tasks", "/broker", "/api/workers", "/api/tasks", "/api/queues/length"):
        assert stack.flower(path, password="guessed").status_code == 401, path
        assert stack.flower(path).status_code == 200, path


def test_checks_see_a_stopped_service(stack):
    """Services stop cleanly within their grace, are then unhealthy, and become healthy again when restarted."""
    names = ("worker-low", "flower")
    try:
        assert stack.stop(*names) == [0, 0]
        assert stack.check(*names, "worker-high") == {"worker-low": False, "flower": False, "worker-high": True}
    finally:
        stack.start(*names)
    stack.wait_healthy(*names)


def test_variables_are_documented():
    """.env.example names exactly the variables the file reads, with the file's defaults, and no secret."""
    found = [match for text in texts(SOURCE) for match in VARIABLE.finditer(text) if match["name"]]
    assert {match["name"]: match["rest"] if match["form"] == "-" else "" for match in found} == DOCUMENTED
    assert not any("$" in VARIABLE.sub("", text) for text in texts(SOURCE))  # no other form of substitution


@pytest.mark.parametrize("name", SECRETS)
def test_secret_is_required(name):
    """Without a secret nothing starts, and its name is said."""
    with pytest.raises(ValueError, match=name):
        substituted(SOURCE, {**SECRETS, name: ""})


def test_no_secret_is_written_down():
    """Whatever looks like a secret comes from a required variable; .env stays out of the repository."""
    settings = {
        key: text for service in SOURCE["services"].values() for key, text in service.get("environment", {}).items()
    }
    secret = {key: text for key, text in settings.items() if re.search("KEY|AUTH|PASSWORD|SECRET|TOKEN", key)}
    assert secret.keys() == {"GENQUEUE_GEMINI_API_KEY", "FLOWER_BASIC_AUTH"}
    for key, text in secret.items():
        assert re.search(r"\$\{\w+:\?[^}]+\}$", text), key
    assert ".env" in (ROOT / ".gitignore").read_text().split()


def test_secrets_stay_out_of_the_logs(stack):
    """No service prints a secret it was given."""
    assert not [
        (name, key) for name in SOURCE["services"] for key, value in SECRETS.items() if value in stack.log(name)
    ]


def test_nothing_is_published_beyond_loopback():
    """Every published port names the loopback address."""
    ports = [port for service in SOURCE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)
    assert not any("network_mode" in service for service in SOURCE["services"].values())


@pytest.mark.parametrize("name", SOURCE["services"])
def test_service_is_looked_after(name):
    """Every service has a health check, comes back after a crash, is bounded, and waits for what it needs."""
    service = SOURCE["services"][name]
    assert service["healthcheck"].keys() == {"test", "interval", "timeout", "retries", "start_period"}
    assert service["restart"] == "unless-stopped"
    assert quantity(service["deploy"]["resources"]["limits"]["memory"]) > 0
    if name != "redis":
        assert service["depends_on"] == {"redis": {"condition": "service_healthy"}}


def test_environment_is_understood():
    """Every variable a service gets is a setting of genqueue or an option of Flower: a typo would go unnoticed."""
    known = {f"GENQUEUE_{field}".upper() for field in WorkerSettings.model_fields}
    known |= {f"FLOWER_{option}".upper() for option in default_options}
    assert {key for service in SOURCE["services"].values() for key in service.get("environment", {})} <= known


@pytest.mark.parametrize("name", WORKERS)
def test_worker_may_drain(name):
    """A worker is not killed before its drain and the cleanup after it are over."""
    service = SOURCE["services"][name]
    drain = float(service["environment"]["GENQUEUE_DRAIN_TIMEOUT"])
    assert quantity(service["stop_grace_period"]) > drain + CLEANUP_GRACE + LIFESPAN_GRACE


def test_workers_are_checked_by_their_readiness():
    """By the page that says whether they work, on the port they are told; it is not published."""
    for name in WORKERS:
        service = SOURCE["services"][name]
        assert f":{service['environment']['GENQUEUE_HEALTH_PORT']}/readyz" in service["healthcheck"]["test"][-1]
        assert "ports" not in service


def test_server_fits_its_container():
    """The image is pinned to a minor version, its data is on a volume, and twice its memory limit fits in."""
    service = SOURCE["services"]["redis"]
    assert re.fullmatch(r"redis:\d+\.\d+(\.\d+)?", service["image"])
    assert service["volumes"] == ["redis-data:/data"]
    flags = dict(zip(service["command"][1::2], service["command"][2::2], strict=True))
    assert 2 * quantity(flags["--maxmemory"]) <= quantity(service["deploy"]["resources"]["limits"]["memory"])


def test_image_is_built_from_what_is_there():
    """Everything the Dockerfile copies exists and is let into the build, and it does not run as root."""
    dockerfile = (ROOT / "ops/Dockerfile").read_text()
    copied = [
        source for line in re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE) for source in line.split()
    ]
    assert copied
    let_in = (ROOT / "ops/Dockerfile.dockerignore").read_text().split()
    for source in copied:
        assert (ROOT / source).exists()
        assert f"!{source}" in let_in
    assert re.findall(r"^USER (\S+)$", dockerfile, re.MULTILINE)[-1] != "root"
    assert SOURCE["services"]["flower"]["build"]["dockerfile"] == "ops/Dockerfile"
