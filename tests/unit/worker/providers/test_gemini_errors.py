"""Google's error objects and httpx's exceptions as provider errors."""

import json
import pickle

import httpx
import pytest

from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.gemini_errors import error_of, error_of_response, error_of_transport, parse_retry_after

NOW = 1_700_000_000.0


def google_error(status, word="WHY", *details):
    """Write an error body as Google does."""
    return json.dumps({"error": {"code": status, "message": "no", "status": word, "details": list(details)}}).encode()


def retry_info(delay):
    """Write the detail that says when to come again."""
    return {"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": delay}


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504, 400, 401, 403, 404, 409, 413])
def test_a_status_decides_whether_the_same_request_may_succeed_later(status):
    """Overload and outages may pass, wrong requests, keys, regions and models do not."""
    error = error_of_response(status, {}, google_error(status), NOW)
    assert (error.code, error.message, error.status) == ("WHY", "no", status)
    assert error.retryable is (status in {408, 429, 500, 502, 503, 504})


@pytest.mark.parametrize(
    ("headers", "details", "seconds"),
    [
        ({}, [], None),
        ({"retry-after": "7"}, [], 7.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:50 GMT"}, [], 30.0),
        ({"retry-after": "Tue, 14 Nov 2023 22:13:10 GMT"}, [], 0.0),
        ({"retry-after": "soon"}, [], None),
        ({"retry-after": "7"}, [retry_info("34.074824224s")], 34.074824224),
        ({"retry-after": "7"}, [retry_info("later")], 7.0),
        ({"retry-after": "2.5"}, [], 2.5),
        ({"retry-after": "-7"}, [], None),
        ({}, [retry_info(None)], None),
        ({}, [retry_info("0.25s")], 0.25),
        ({}, [retry_info("1.5s")], 1.5),
        ({"retry-after": "7"}, [retry_info("0s")], 7.0),
        ({}, [retry_info("nans")], None),
        ({}, [retry_info("-3s")], None),
        ({}, [retry_info("999999999999999s")], 999999999999999.0),
        ({}, [retry_info("9" * 400 + "s")], None),
        ({}, [retry_info({"seconds": "3", "nanos": 250_000_000})], 3.25),
        ({}, [retry_info({"nanos": 500_000_000})], 0.5),
        ({}, [retry_info({"seconds": True})], None),
        ({}, [{"error": {"details": [retry_info("9s")]}}], 9.0),
        ({}, ["a sentence", retry_info("4s")], 4.0),
    ],
)
def test_when_to_come_again_is_read_from_the_body_and_else_from_the_header(headers, details, seconds):
    """RetryInfo is exact and counts over Retry-After, which may be seconds or a date."""
    assert (
        error_of_response(429, headers, google_error(429, "RESOURCE_EXHAUSTED", *details), NOW).retry_after == seconds
    )


@pytest.mark.parametrize(
    ("body", "message"),
    [(b"<h1>Bad Gateway</h1>", "<h1>Bad Gateway</h1>"), (b"", "empty answer"), (b"\xff", "\ufffd"), (b"[]", "[]")],
)
def test_an_answer_that_is_no_google_error_still_says_what_came(body, message):
    """A proxy's page is quoted, and its status is the code."""
    error = error_of_response(502, {}, body, NOW)
    assert (error.code, error.message, error.retryable) == ("HTTP_502", message, True)


def test_an_error_in_a_list_is_read():
    """Without `alt=sse` Google wraps errors in a list."""
    assert (
        error_of_response(403, {}, b"[" + google_error(403, "PERMISSION_DENIED") + b"]", NOW).code
        == "PERMISSION_DENIED"
    )


def test_an_error_quoted_in_a_message_says_when_to_come_again():
    """A front end of Google's puts the error of the one behind it, as JSON, into its own message."""
    inner = google_error(429, "RESOURCE_EXHAUSTED", retry_info("12.5s")).decode()
    outer = {"error": {"code": 429, "status": "RESOURCE_EXHAUSTED", "message": f"got status: 429. {inner}"}}
    assert error_of_response(429, {}, json.dumps(outer).encode(), NOW).retry_after == 12.5
    for broken in ("} {", "{", "{]}", "{" * 5000 + "}"):
        outer["error"]["message"] = broken
        assert error_of_response(429, {}, json.dumps(outer).encode(), NOW).retry_after is None


@pytest.mark.parametrize(
    ("error", "status", "retryable"),
    [
        ({"code": 429}, 429, True),
        ({"code": "503"}, 503, True),
        ({"status": "RESOURCE_EXHAUSTED"}, 429, True),
        ({"status": "UNAVAILABLE"}, 503, True),
        ({"status": "INTERNAL"}, 500, True),
        ({"status": "DEADLINE_EXCEEDED"}, 504, True),
        ({"status": "INVALID_ARGUMENT"}, 400, False),
        ({"status": "PERMISSION_DENIED", "code": None}, 403, False),
        ({"status": "NEWS", "message": "what?"}, None, True),
        ({}, None, True),
        ("overloaded", None, True),
    ],
)
def test_an_error_in_a_stream_says_its_status_itself(error, status, retryable):
    """By its number, or else by Google's word; what says neither broke off in the middle, and may pass."""
    found = error_of([{"error": error}])
    assert (found.status, found.retryable) == (status, retryable)


@pytest.mark.parametrize(
    ("status", "word", "reason", "doubted"),
    [
        (400, "INVALID_ARGUMENT", "API_KEY_INVALID", True),
        (400, "INVALID_ARGUMENT", "FIELD_INVALID", False),
        (400, "FAILED_PRECONDITION", "", True),
        (401, "UNAUTHENTICATED", "", True),
        (403, "PERMISSION_DENIED", "", True),
        (404, "NOT_FOUND", "", False),
        (429, "RESOURCE_EXHAUSTED", "", False),
    ],
)
def test_a_refusal_that_may_be_the_keys_is_told_from_the_requests(status, word, reason, doubted):
    """A key nobody gave out has status 400, as a wrong request has; ErrorInfo tells them apart."""
    info = {"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": reason}
    assert error_of_response(status, {}, google_error(status, word, info), NOW).doubts_key is doubted


def request_errors(kind=httpx.RequestError):
    """Return all kinds of errors httpx's transports raise."""
    return [kind, *(leaf for below in kind.__subclasses__() for leaf in request_errors(below))]


@pytest.mark.parametrize("kind", [*request_errors(), httpx.InvalidURL])
def test_every_error_of_httpx_has_a_code(kind):
    """No exception of httpx gets through, and only a wrong address or key is not worth another try."""
    error = error_of_transport(kind("why"))
    assert error.code
    assert error.message == "why"
    assert error.retryable is (kind not in {httpx.InvalidURL, httpx.UnsupportedProtocol, httpx.LocalProtocolError})


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (httpx.ConnectTimeout, "connect_timeout"),
        (httpx.ConnectError, "connect_error"),
        (httpx.ReadTimeout, "read_timeout"),
        (httpx.PoolTimeout, "connections_full"),
        (httpx.ReadError, "connection_lost"),
        (httpx.RemoteProtocolError, "protocol_error"),
    ],
)
def test_codes_tell_what_broke(kind, code):
    """An operator sees from the code which part of the way failed; an error without words gives its kind."""
    assert error_of_transport(kind("")).code == code
    assert error_of_transport(kind("")).message == kind.__name__


def test_retry_after_without_a_header():
    """No header says nothing."""
    assert parse_retry_after(None, NOW) is None


def test_an_error_keeps_its_fields_on_its_way_through_a_pipe():
    """Celery may pickle it; what it prints has code, status and message."""
    error = pickle.loads(pickle.dumps(ProviderError("CODE", "why", 429, True, 1.5, True)))  # noqa: FBT003
    assert str(error) == "CODE (HTTP 429): why"
    assert (error.code, error.message, error.status, error.retryable) == ("CODE", "why", 429, True)
    assert (error.retry_after, error.doubts_key) == (1.5, True)
