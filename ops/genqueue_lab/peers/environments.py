"""Environments of the peers under `.genqueue/peers/`, made by pip on first use and whenever their pins change."""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

#: Every peer; its module, and its pins in NAME.txt beside it.
PEERS: Final = ("arq", "saq", "streaq", "taskiq")

#: Seconds one environment may take.
PATIENCE: Final = 600.0

_HERE: Final = Path(__file__).parent


class PeerUnavailable(Exception):
    """A peer could not be installed; the message says why."""


def pythons(say: Callable[[str], object]) -> tuple[Mapping[str, str], Mapping[str, str]]:
    """Return the interpreter of each peer's environment, and of those that have none, why; makes what is missing."""
    found, missing = {}, {}
    with ThreadPoolExecutor(len(PEERS)) as pool:
        for name, made in [(name, pool.submit(_python, name, say)) for name in PEERS]:
            try:
                found[name] = made.result()
            except PeerUnavailable as error:
                missing[name] = str(error)
    return found, missing


def _python(name: str, say: Callable[[str], object]) -> str:
    directory = (Path(".genqueue") / "peers" / name).absolute()
    pins, installed, python = _HERE / f"{name}.txt", directory / "installed.txt", directory / "bin" / "python"
    if not (installed.exists() and installed.read_text() == pins.read_text()):
        say(f"installing {name} into {directory}")
        _run(sys.executable, "-m", "venv", "--clear", "--without-pip", str(directory))
        _install(str(python), pins)
        installed.write_text(pins.read_text())
    return str(python)


def _install(python: str, pins: Path) -> None:
    """Install into an environment by the pip of this one, or of the Python it was made from."""
    # The pins name everything, so nothing is left to be resolved.
    options = ("--quiet", "--disable-pip-version-check", "--no-deps", "--no-compile", "-r", str(pins))
    pip = ("-m", "pip", "--python", python, "install", *options)
    try:
        _run(sys.executable, *pip)
    except PeerUnavailable as error:
        if "No module named pip" not in str(error):
            raise
        _run(str(getattr(sys, "_base_executable", sys.executable)), *pip)


def _run(*command: str) -> None:
    """Run a command; raises PeerUnavailable with the end of what it said."""
    try:
        ran = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise PeerUnavailable(str(error)) from error
    if ran.returncode:
        raise PeerUnavailable((ran.stderr or ran.stdout).strip()[-300:])
