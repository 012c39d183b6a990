import json

import pytest

from genqueue_worker.providers.openai_errors import OUT_OF_MONEY, error_of, error_of_response

NOW = 1_800_000_000.0


def told(status, headers=None, **error):
    """Return the error of an answer in OpenAI's shape."""
    body = json.dumps({"error": {"message": "No", "type": "t", "param": None, "code": None, **error}}).encode()
    return error_of_response(status, headers or {}, body, NOW)


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        (400, False),
        (401, False),
        (403, False),
        (404, False),
        (408, True),
        (409, True),
        (413, False),
        (422, False),
        (429, True),
        (500, True),
        (501, False),
        (502, True),
        (503, True),
        (504, True),
        (529, True),
    ],
)
def test_statuses(status, retryable):
    """Which may pass, and which may be the key's fault."""
    error = told(status, code="the_code")
    assert (error.code, error.status, error.retryable) == ("the_code", status, retryable)
    assert error.doubts_key == (status in (401, 403))


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b'{"error":{"message":"No such","type":"t","param":"model","code":null}}', "t", "No such (model)"),
        (b'{"error":{"message":"No","type":"t","code":429}}', "t", "No"),
        (b'{"object":"error","message":"No","type":"NotFoundError","code":404}', "NotFoundError", "No"),
        (b'{"error":"No"}', "HTTP_400", "No"),
        (b'{"detail":[{"loc":["body","n"]}]}', "HTTP_400", '{"detail":[{"loc":["body","n"]}]}'),
        (b"<html>", "HTTP_400", "<html>"),
        (b"", "HTTP_400", "empty answer"),
        (b"7", "HTTP_400", "7"),
    ],
)
def test_every_servers_shape_is_read(body, code, message):
    """OpenAI's object, vLLM's bare one, FastAPI's list, and what is none."""
    error = error_of_response(400, {}, body, NOW)
    assert (error.code, error.message) == (code, message)


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": "7", "retry-after-ms": "1500"}, 1.5),
        ({"retry-after": "Fri, 15 Jan 2027 08:00:10 GMT"}, 10.0),
        ({"x-ratelimit-reset-requests": "120ms", "x-ratelimit-remaining-requests": "0"}, 0.12),
        (
            {
                "x-ratelimit-reset-requests": "1m0.5s",
                "x-ratelimit-remaining-requests": "0",
                "x-ratelimit-reset-tokens": "6m0s",
                "x-ratelimit-remaining-tokens": "10",
            },
            60.5,
        ),
        ({"x-ratelimit-reset-requests": "1h", "x-ratelimit-reset-tokens": "2s"}, 2.0),
        ({"x-ratelimit-reset-tokens": "soon"}, None),
    ],
)
def test_a_rate_limit_says_when_to_come_again(headers, seconds):
    """Milliseconds count over seconds, both over the limits' resets, of which the one that is used up counts."""
    assert told(429, headers, code="rate_limit_exceeded").retry_after == seconds


def test_a_redirect_says_where_to():
    """Nobody follows it: the key is for another."""
    error = error_of_response(307, {"location": "https://else.test/v1"}, b"<html>", 0.0)
    assert (error.code, error.retryable) == ("HTTP_307", False)
    assert error.message == "The server redirects to https://else.test/v1: expected the API itself"


def test_a_message_says_it_where_no_header_can():
    """In the middle of a stream."""
    error = error_of({"error": {"message": "Please try again in 1m2.5s. Visit ...", "code": "rate_limit_exceeded"}})
    assert (error.status, error.retry_after) == (429, 62.5)


@pytest.mark.parametrize(("status", "code"), [(429, "insufficient_quota"), (402, "x"), (403, "billing_not_active")])
def test_an_account_without_money_waits_for_long(status, code):
    """Nobody tops it up within a back-off."""
    error = told(status, {"retry-after": "1"}, code=code)
    assert (error.retryable, error.retry_after) == (True, OUT_OF_MONEY)
