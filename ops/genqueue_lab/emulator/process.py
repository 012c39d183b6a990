"""The emulator as a child process, and the way to steer it."""

from __future__ import annotations

import contextlib
import http.client
import json
import shutil
import ssl
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode, urlsplit

import msgspec

from genqueue_lab.emulator.options import Options

if TYPE_CHECKING:
    from collections.abc import Iterator

#: Seconds an emulator may take from start to its ready file, and to end after SIGTERM.
START_TIMEOUT = 30.0
STOP_TIMEOUT = 5.0

#: Seconds one steering request may take on top of what it waits for.
REQUEST_TIMEOUT = 10.0


class EmulatorProcess:
    """An emulator in a process of its own; a context manager.

    Args:
        options: how to start it. `directory` and `ready_file` are ignored: it gets a temporary directory.
    """

    def __init__(self, options: Options | None = None) -> None:
        self.options = options or Options()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Self:
        """Start the process and return once it accepts connections; raises RuntimeError with its log if it does not."""
        self._directory = Path(tempfile.mkdtemp(prefix="genqueue-emulator-"))
        with (self._directory / "log").open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "genqueue_lab.emulator", *self._arguments()],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C goes to the parent, which stops the emulator last
            )
        ready = self._wait_ready(self._process)
        self.url, self.ca_file = str(ready["url"]), Path(ready["ca_file"])
        self._tls = self.trust()
        return self

    def _arguments(self) -> list[str]:
        options = self.options
        quota = msgspec.structs.asdict(options.quota)
        named = {
            "host": options.host,
            "port": options.port,
            **{name.replace("_", "-"): value for name, value in msgspec.structs.asdict(options.pace).items()},
            **{name: value for name, value in quota.items() if value is not None},
            "max-streams": options.max_concurrent_streams,
            "directory": self._directory,
            "ready-file": self._directory / "ready",
        }
        if options.api_key is not None:
            named["api-key"] = options.api_key
        faults = [f"--fault={rule.spell()}" for rule in options.faults]
        return [f"--{name}={value}" for name, value in named.items()] + faults

    def _wait_ready(self, process: subprocess.Popen[bytes]) -> dict[str, Any]:
        give_up = time.monotonic() + START_TIMEOUT
        ready = self._directory / "ready"
        while not ready.exists():
            if process.poll() is not None or time.monotonic() > give_up:
                log = self.log()
                self.stop()
                raise RuntimeError(f"the emulator did not start:\n{log}")
            time.sleep(0.01)
        answer: dict[str, Any] = json.loads(ready.read_text())
        return answer

    @property
    def pid(self) -> int:
        """Process id of the running emulator."""
        if self._process is None:
            raise RuntimeError("the emulator is not running: call start() first")
        return self._process.pid

    def trust(self) -> ssl.SSLContext:
        """Return a new TLS client context that trusts this emulator and nobody else."""
        return ssl.create_default_context(cafile=self.ca_file)

    def log(self) -> str:
        """Return the end of what the process has printed."""
        return (self._directory / "log").read_text(errors="replace")[-4000:]

    def stop(self) -> int | None:
        """End the process, remove its directory and return its exit code; None when it was not running."""
        if self._process is None:
            return None
        self._process.terminate()
        try:
            code = self._process.wait(timeout=STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            self._process.kill()
            code = self._process.wait()
        self._process = None
        shutil.rmtree(self._directory, ignore_errors=True)
        return code

    def stats(self, *, details: bool = True) -> dict[str, Any]:
        """Return what the emulator has seen since its start or the last reset; `details` adds every request."""
        return self._request("GET", f"/emulator/stats?details={int(details)}")

    def prompts(self) -> dict[str, dict[str, Any]]:
        """Return what became of the calls of each prompt, by its fingerprint (`requests.fingerprint`)."""
        listed = self._request("GET", "/emulator/stats?details=0&prompts=1")["prompts"]
        return {one["fingerprint"]: one for one in listed}

    def fault(self, kind: str, **fields: Any) -> int:
        """Put a rule in force, see `faults.Rule` for its fields, and return its number."""
        (added,) = self._request("POST", "/emulator/faults", {"kind": kind, **fields})["faults"]
        return int(added["id"])

    def faults(self) -> list[dict[str, Any]]:
        """Return the rules in force with their counts."""
        rules: list[dict[str, Any]] = self._request("GET", "/emulator/faults")["faults"]
        return rules

    def clear_faults(self, number: int | None = None) -> list[dict[str, Any]]:
        """Take one rule, or all, out of force and return them with their last counts."""
        query = "" if number is None else f"?id={number}"
        rules: list[dict[str, Any]] = self._request("DELETE", f"/emulator/faults{query}")["faults"]
        return rules

    def limit(self, **values: Any) -> dict[str, Any]:
        """Change quotas (rpm, rpd, window, minute; None for no limit) and return those before."""
        return self._request("POST", "/emulator/quotas", values)

    def account(self, project: str = "genqueue", kind: str = "service_account") -> dict[str, str]:
        """Return the JSON key of a new service account, or the credentials of an "authorized_user"."""
        return self._request("POST", "/emulator/accounts", {"project": project, "kind": kind})

    def tokens(self, **values: Any) -> dict[str, Any]:
        """Change the terms of access tokens, see `tokens.Terms`, and return those before; given none, counts too."""
        return self._request("POST" if values else "GET", "/emulator/tokens", values or None)

    def revoke_tokens(self) -> int:
        """Take back all access tokens and return how many were in force."""
        return int(self._request("DELETE", "/emulator/tokens")["revoked"])

    def files(self) -> list[dict[str, Any]]:
        """Return what was ever uploaded by the Files API, as that API describes it."""
        files: list[dict[str, Any]] = self._request("GET", "/emulator/files")["files"]
        return files

    def bodies(self) -> list[dict[str, Any]]:
        """Return the latest requests to generate that were understood, as they came in, the oldest first."""
        bodies: list[dict[str, Any]] = self._request("GET", "/emulator/bodies")["bodies"]
        return bodies

    def wait(self, timeout: float = REQUEST_TIMEOUT, **bounds: float) -> dict[str, Any]:
        """Return the statistics once the totals reach their bounds, e.g. `wait(live_at_most=0, cancelled_at_least=1)`.

        Raises TimeoutError after `timeout` seconds.
        """
        query = urlencode({"timeout": timeout, **bounds})
        return self._request("GET", f"/emulator/wait?{query}", timeout=timeout + REQUEST_TIMEOUT)

    def set(self, **values: float) -> dict[str, Any]:
        """Change the pace (ttft, tpot, tokens, ...) of requests from now on and return the one before."""
        return self._request("POST", "/emulator/settings", values)

    @contextlib.contextmanager
    def paced(self, **values: float) -> Iterator[None]:
        """Change the pace inside a `with` block."""
        before = self.set(**values)
        try:
            yield
        finally:
            self.set(**before)

    def reset_stats(self) -> None:
        """Forget what was seen so far."""
        self._request("POST", "/emulator/reset")

    def _request(
        self, method: str, target: str, values: object = None, timeout: float = REQUEST_TIMEOUT
    ) -> dict[str, Any]:
        address = urlsplit(self.url).netloc
        connection = http.client.HTTPSConnection(address, timeout=timeout, context=self._tls)
        with contextlib.closing(connection):
            connection.request(method, target, None if values is None else msgspec.json.encode(values))
            response = connection.getresponse()
            body: dict[str, Any] = json.loads(response.read())
        if response.status == http.HTTPStatus.REQUEST_TIMEOUT:
            raise TimeoutError(f"{target} was not reached: {body['totals']}")
        if response.status != http.HTTPStatus.OK:
            raise ValueError(body["error"])
        return body

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(self, *_: object) -> None:
        self.stop()
