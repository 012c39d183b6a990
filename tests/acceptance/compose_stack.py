"""compose.yaml as Compose reads it, and its services as plain processes."""

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import yaml
from acceptance_workers import wait_until

from genqueue_lab.servers import embedded_binary, free_port

ROOT = Path(__file__).parents[2]
SOURCE = yaml.safe_load((ROOT / "compose.yaml").read_text())
#: The forms of Compose's substitution that the file uses.
VARIABLE = re.compile(r"\$(?:(?P<escaped>\$)|\{(?P<name>\w+)(?::(?P<form>[-?])(?P<rest>[^}]*))?\})")
SECRETS = {"GEMINI_API_KEY": "key-of-the-test", "FLOWER_PASSWORD": "password-of-the-test"}
#: Where each worker tells of its health.
HEALTH_PORT = SOURCE["x-worker-environment"]["GENQUEUE_HEALTH_PORT"]
#: What the services print once they started; checking them before would only keep the machine busy.
STARTED = ("Ready to accept connections", " ready.", "Visit me at")


def substituted(value, variables):
    """Return a value of the file as Compose sees it; raises ValueError for a required variable that is empty."""

    def one(match):
        if match["escaped"]:
            return "$"
        found = variables.get(match["name"])
        if not found and match["form"] == "?":
            raise ValueError(f"{match['name']}: {match['rest']}")
        return found or (match["rest"] if match["form"] == "-" else "")

    if isinstance(value, dict):
        return {key: substituted(item, variables) for key, item in value.items()}
    if isinstance(value, list):
        return [substituted(item, variables) for item in value]
    return VARIABLE.sub(one, value) if isinstance(value, str) else value


def texts(value):
    """Return every text inside a value of the file."""
    if isinstance(value, (dict, list)):
        items = value.values() if isinstance(value, dict) else value
        return [text for item in items for text in texts(item)]
    return [value] if isinstance(value, str) else []


def quantity(text):
    """Return a duration in seconds or a size in bytes, as Compose and the server write them."""
    number, unit = re.fullmatch(r"(\d+)([a-z]+)", text).groups()
    return int(number) * {"s": 1, "m": 60, "mb": 2**20, "g": 2**30, "gb": 2**30}[unit]


def _moved(value, old, new):
    """Replace a text in every text inside a value."""
    if isinstance(value, dict):
        return {key: _moved(item, old, new) for key, item in value.items()}
    if isinstance(value, list):
        return [_moved(item, old, new) for item in value]
    return value.replace(old, new) if isinstance(value, str) else value


class Stack:
    """The services as processes on the loopback interface, with nothing in their environment but what Compose gives."""

    def __init__(self, directory, server, emulator):
        self.directory = directory
        self.server = server
        self.ports = {"redis": free_port(), "flower": free_port()}
        self.variables = {**SECRETS, "GENQUEUE_GEMINI_BASE_URL": emulator.url}
        services = self._here(substituted(SOURCE["services"], self.variables))
        # Containers may all use one port; processes of one machine may not.
        self.services = {name: _moved(service, HEALTH_PORT, str(free_port())) for name, service in services.items()}
        self.base = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "PYTHONUNBUFFERED": "1",
            "GENQUEUE_GEMINI_CA_FILE": str(emulator.ca_file),
        }
        self.processes = {}

    def _here(self, value):
        """Map the services' names and ports to this machine."""
        if isinstance(value, dict):
            return {key: self._here(item) for key, item in value.items()}
        if isinstance(value, list):
            return [self._here(item) for item in value]
        if not isinstance(value, str):
            return value
        value = value.replace("redis:6379", f"127.0.0.1:{self.ports['redis']}").replace("0.0.0.0", "127.0.0.1")
        return value.replace("5555", str(self.ports["flower"]))

    def _program(self, command):
        program, *arguments = command
        if program == "redis-server":
            place = ["--bind", "127.0.0.1", "--port", str(self.ports["redis"]), "--dir", str(self.directory)]
            return [self.server or str(embedded_binary()), *arguments, *place]
        if program == "redis-cli":
            return self._client(arguments)
        return [shutil.which(program, path=self.base["PATH"]), *arguments]

    def _client(self, arguments):
        port = str(self.ports["redis"])
        client = shutil.which("redis-cli", path=self.base["PATH"])
        if client:
            return [client, "-p", port, *arguments]
        assert arguments == ["-e", "ping"]  # the one thing the stand-in knows: the embedded server brings no client
        return [sys.executable, "-c", f"import redis; redis.Redis(port={port}).ping()"]

    def environment(self, name):
        """Return all of a service's environment."""
        return {**self.base, **self.services[name].get("environment", {})}

    def log(self, name):
        """Return what a service printed since its last start."""
        return (self.directory / f"{name}.log").read_text(errors="replace")

    def start(self, *names):
        """Start services; returns at once."""
        for name in names:
            with (self.directory / f"{name}.log").open("wb") as output:
                self.processes[name] = subprocess.Popen(
                    self._program(self.services[name]["command"]),
                    env=self.environment(name),
                    cwd=self.directory,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )

    def check(self, *names):
        """Run health checks side by side, once each; returns whether each is good, by name."""
        running = {name: self._start_check(name) for name in names}
        return {name: self._is_good(name, check) for name, check in running.items()}

    def _start_check(self, name):
        kind, *command = self.services[name]["healthcheck"]["test"]
        command = ["/bin/sh", "-c", *command] if kind == "CMD-SHELL" else self._program(command)
        with (self.directory / f"{name}.checks").open("ab") as output:
            return subprocess.Popen(
                command, env=self.environment(name), stdout=output, stderr=output, start_new_session=True
            )

    def _is_good(self, name, check):
        try:
            return check.wait(quantity(self.services[name]["healthcheck"]["timeout"])) == 0
        except subprocess.TimeoutExpired:
            os.killpg(check.pid, signal.SIGKILL)
            check.wait()
            return False

    def wait_healthy(self, *names):
        """Wait until each service says that it started, then until its own check is good."""

        def started(name):
            assert self.processes[name].poll() is None, self.log(name)
            return any(line in self.log(name) for line in STARTED)

        for name in names:
            wait_until(lambda name=name: started(name), what=f"the start of {name}")
        wait_until(lambda: all(self.check(*names).values()), what=f"the health of {names}")

    def stop(self, *names):
        """Stop services as Compose does; returns their exit statuses."""
        for name in names:
            self.processes[name].send_signal(signal.SIGTERM)
        graces = [quantity(self.services[name]["stop_grace_period"]) for name in names]
        return [self.processes[name].wait(grace) for name, grace in zip(names, graces, strict=True)]

    def close(self):
        """End every process, the server last."""
        for process in reversed(self.processes.values()):
            if process.poll() is None:
                process.kill()
            process.wait()

    def flower(self, path, password=SECRETS["FLOWER_PASSWORD"]):
        """Return Flower's answer."""
        return httpx.get(
            f"http://127.0.0.1:{self.ports['flower']}{path}", auth=("operator", password), trust_env=False, timeout=10
        )
