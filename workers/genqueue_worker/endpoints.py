"""/livez, /readyz and /metrics over HTTP, from threads of their own: they answer when nothing else does."""

from __future__ import annotations

import json
import logging
import socket
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from genqueue.errors import SettingsError
from genqueue_worker.telemetry import CONTENT_TYPE

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

log = logging.getLogger("genqueue.health")

#: Seconds a caller may take over its request.
PATIENCE: Final = 5.0

#: Seconds after which the server notices that it is closed.
TURN: Final = 0.2


@dataclass(frozen=True, slots=True)
class Page:
    """What is answered."""

    status: HTTPStatus
    body: bytes
    content_type: str = "application/json"


def judged(reasons: Sequence[str], word: str, **further: object) -> Page:
    """Return a page that says yes, or no and why, and what there is to know further."""
    status = HTTPStatus.SERVICE_UNAVAILABLE if reasons else HTTPStatus.OK
    return Page(status, json.dumps({word: not reasons, "reasons": list(reasons), **further}).encode() + b"\n")


def metrics(text: bytes) -> Page:
    """Return a page of metrics."""
    return Page(HTTPStatus.OK, text, CONTENT_TYPE)


class Endpoints:
    """Serves pages from `start` to `close`.

    Args:
        host, port: where.
        pages: a function for each path that returns its page; called in any thread.
    """

    def __init__(self, host: str, port: int, pages: Mapping[str, Callable[[], Page]]) -> None:
        self._host, self._port = host, port
        self._handler = type("Handler", (_Handler,), {"pages": pages})
        self._server: ThreadingHTTPServer | None = None

    def start(self) -> None:
        """Listen; raises SettingsError when that address is not to be had."""
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            server = type("Server", (_Server,), {"address_family": found[0][0]})
            self._server = server(found[0][4][:2], self._handler)
        except OSError as error:
            where = f"GENQUEUE_HEALTH_PORT: got {self._port}"
            problem = f"{where}, expected a port that is free on GENQUEUE_HEALTH_HOST {self._host!r} ({error})"
            raise SettingsError([problem]) from error
        threading.Thread(target=self._server.serve_forever, args=(TURN,), name="genqueue-health", daemon=True).start()
        log.info("health.listening host=%s port=%d", self._host, self._port)

    def close(self) -> None:
        """Listen no more."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def server_bind(self) -> None:
        """Bind without the look-up of the host's name, which may wait for a name server."""
        if self.address_family == socket.AF_INET6:
            with_v4 = getattr(socket, "IPPROTO_IPV6", None)
            if with_v4 is not None:
                self.socket.setsockopt(with_v4, socket.IPV6_V6ONLY, 0)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - the class's signature
        """Say that a request went wrong; a caller that hung up is no news."""
        log.debug("health.failed caller=%s", client_address, exc_info=True)  # noqa: LOG014 - the class calls it from a handler


class _Handler(BaseHTTPRequestHandler):
    pages: Mapping[str, Callable[[], Page]]
    timeout = PATIENCE
    server_version = "genqueue"
    sys_version = ""

    def do_GET(self) -> None:
        """Answer with the page."""
        self._answer(with_body=True)

    def do_HEAD(self) -> None:
        """Answer with the page's head."""
        self._answer(with_body=False)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the class's signature
        """Say nothing: it is asked every few seconds."""

    def _answer(self, *, with_body: bool) -> None:
        make = self.pages.get(urlsplit(self.path).path)
        page = make() if make else Page(HTTPStatus.NOT_FOUND, _missing(self.pages))
        self.send_response(page.status)
        self.send_header("Content-Type", page.content_type)
        self.send_header("Content-Length", str(len(page.body)))
        self.send_header("Cache-Control", "no-store")
        self.end_headers()
        if with_body:
            self.wfile.write(page.body)


def _missing(pages: Mapping[str, Callable[[], Page]]) -> bytes:
    return json.dumps({"error": "no such page", "pages": sorted(pages)}).encode() + b"\n"
