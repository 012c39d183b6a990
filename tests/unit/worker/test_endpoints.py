"""Pages over HTTP: what is answered to whom, and where it listens."""

import socket
import urllib.error
import urllib.request

import pytest

from genqueue.errors import SettingsError
from genqueue_lab.servers import free_port
from genqueue_worker.endpoints import Endpoints, judged, metrics

PAGES = {
    "/livez": lambda: judged([], "alive"),
    "/readyz": lambda: judged(["stopping: it was told to end"], "ready"),
    "/metrics": lambda: metrics(b"genqueue_slots 7\n"),
}


@pytest.fixture
def serve():
    """Serve pages on an address; returns a function that asks for one."""
    serving = []

    def start(host, shown):
        port = free_port()
        serving.append(Endpoints(host, port, PAGES))
        serving[-1].start()

        def ask(path, method="GET"):
            request = urllib.request.Request(f"http://{shown}:{port}{path}", method=method)
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    return answer.status, answer.headers, answer.read()
            except urllib.error.HTTPError as error:
                with error:
                    return error.code, error.headers, error.read()

        return ask

    yield start
    for endpoints in serving:
        endpoints.close()


def test_pages_say_yes_or_no_and_why(serve):
    """With a body in JSON, a query or not; HEAD gives the same head alone; any other page is not there."""
    ask = serve("127.0.0.1", "127.0.0.1")
    assert ask("/livez?verbose")[::2] == (200, b'{"alive": true, "reasons": []}\n')
    status, headers, body = ask("/readyz")
    assert (status, body) == (503, b'{"ready": false, "reasons": ["stopping: it was told to end"]}\n')
    assert headers["Content-Type"] == "application/json"
    head = ask("/readyz", "HEAD")
    assert (head[0], head[1]["Content-Length"], head[2]) == (503, str(len(body)), b"")
    assert ask("/metrics")[1]["Content-Type"].startswith("text/plain; version=")
    assert ask("/metrics")[2] == b"genqueue_slots 7\n"
    assert ask("/")[0] == ask("/livez/")[0] == 404
    assert ask("/livez", "POST")[0] == 501


@pytest.mark.parametrize(("host", "shown"), [("::1", "[::1]"), ("::", "127.0.0.1"), ("localhost", "localhost")])
def test_any_address_of_this_machine(serve, host, shown):
    """Of either family."""
    assert serve(host, shown)("/livez")[0] == 200


def test_a_taken_port_is_named():
    """With the variable to change; so is an address that is not this machine's."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"GENQUEUE_HEALTH_PORT: got {port}, expected a port that is free"):
            Endpoints("127.0.0.1", port, PAGES).start()
    with pytest.raises(SettingsError, match=r"GENQUEUE_HEALTH_HOST '192\.0\.2\.1'"):
        Endpoints("192.0.2.1", port, PAGES).start()
