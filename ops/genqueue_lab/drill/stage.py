"""Where a drill plays: a data server, an emulator and workers of its own, all of them processes."""

from __future__ import annotations

import itertools
import random
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import redis
from redis.backoff import ConstantBackoff
from redis.retry import Retry

from genqueue import Client
from genqueue.keys import Keys
from genqueue.settings import Settings
from genqueue_lab.drill.crew import Worker
from genqueue_lab.emulator import NOBODY_ELSE, EmulatorProcess, Options, Pace
from genqueue_lab.fault_proxy import FaultProxy
from genqueue_lab.servers import RedisServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genqueue_lab.drill.plan import Plan

#: Seconds a worker has after SIGTERM at the drill's end.
STOP_PATIENCE: Final = 10.0

#: Times and seconds in between that the audit asks a server that is just coming back.
_TRIES: Final = 100
_PAUSE: Final = 0.1


@dataclass(frozen=True, slots=True)
class Setting:
    """What a stage is built of.

    Attributes:
        pace: of the emulator's answers.
        worker: GENQUEUE_* variables of the workers, without the prefix.
        server: directives of the data server.
        client: settings of the SDK; submit writes some of them into the flight.
        without: the mechanism that the workers go without; None for the real program.
    """

    pace: Pace = field(default_factory=Pace)
    worker: Mapping[str, object] = field(default_factory=dict)
    server: Mapping[str, str] = field(default_factory=dict)
    client: Mapping[str, Any] = field(default_factory=dict)
    without: str | None = None


class Stage:
    """Server, emulator and workers; a context manager that ends whatever it started.

    Attributes:
        server: the data server, which is the broker too.
        emulator: the provider.
        workers: those that were started and not dismissed.
        keys: spells the deployment's keys.
        chance: the drill's source of everything drawn.
        redis: a client of the server that waits while it is away, for the audit.
    """

    def __init__(self, plan: Plan, setting: Setting) -> None:
        self.setting = setting
        self.server = RedisServer(config=dict(setting.server))
        self.emulator = EmulatorProcess(Options(pace=setting.pace))
        self.workers: list[Worker] = []
        self.dismissed: list[Worker] = []
        self.keys = Keys()
        self.chance = random.Random(plan.seed)  # noqa: S311 - no secret
        self._plan = plan
        self._numbers = itertools.count(1)
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            if self._plan.logs is not None:
                self._plan.logs.mkdir(parents=True, exist_ok=True)
            self._directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="genqueue-drill-")))
            stack.enter_context(self.server)
            stack.enter_context(self.emulator)
            retry: Retry = Retry(ConstantBackoff(_PAUSE), _TRIES)
            self.redis = redis.Redis.from_url(self.server.url(), retry=retry, socket_timeout=5, protocol=2)
            stack.callback(self.redis.close)
            stack.callback(self._end_workers)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def settings(self, proxy: FaultProxy | None = None) -> Settings:
        """Return what a client of this deployment is made with, by way of a proxy if there is one."""
        url = self.server.url() if proxy is None else proxy.url()
        return Settings.load(data_url=url, broker_url=url, key_prefix=self.keys.prefix, **self.setting.client)

    def client(self, proxy: FaultProxy | None = None) -> Client:
        """Return a client that is closed with the stage."""
        return self._stack.enter_context(Client(self.settings(proxy)))

    def proxy(self) -> FaultProxy:
        """Return a proxy in front of the server."""
        return self._stack.enter_context(FaultProxy(self.server.port))

    def hire(self, proxy: FaultProxy | None = None, **settings: object) -> Worker:
        """Start a worker; whoever needs it waits for it."""
        name = f"w{next(self._numbers)}"
        url = self.server.url() if proxy is None else proxy.url()
        own = {
            "DATA_URL": url,
            "BROKER_URL": url,
            "KEY_PREFIX": self.keys.prefix,
            "WORKER_NAME": name,
            "GEMINI_BASE_URL": self.emulator.url,
            "GEMINI_CA_FILE": self.emulator.ca_file,
            "GEMINI_API_KEY": "emulator",
            **self.setting.worker,
            **settings,
        }
        environment = {**NOBODY_ELSE, **{f"GENQUEUE_{key}": str(value) for key, value in own.items()}}
        log = None if self._plan.logs is None else self._plan.logs / f"{name}.log"
        worker = Worker(name, {**environment, "PYTHONUNBUFFERED": "1"}, self.setting.without, log)
        self.workers.append(worker)
        return worker

    def hire_ready(self, count: int) -> list[Worker]:
        """Start some workers together and return them once all consume."""
        hired = [self.hire() for _ in range(count)]
        for worker in hired:
            worker.wait_ready()
        return hired

    def calls(self) -> int:
        """Return how many generations the provider was asked for."""
        paths = self.emulator.stats(details=False)["paths"]
        return sum(count for path, count in paths.items() if "enerateContent" in path)

    def dismiss(self, worker: Worker) -> None:
        """Count a worker no more: it has ended, as the drill wanted."""
        self.workers.remove(worker)
        self.dismissed.append(worker)

    @property
    def everybody(self) -> list[Worker]:
        """Every worker there ever was."""
        return [*self.dismissed, *self.workers]

    def _end_workers(self) -> None:
        for worker in self.everybody:
            if worker.alive:
                worker.thaw()
                worker.kill()
