"""Signing in to Google Cloud by google-auth: a key file, or Application Default Credentials. Everything here blocks."""

import datetime as dt
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Self

import google.auth
import httpx
from google.auth import exceptions, transport
from google.auth.credentials import Credentials

from genqueue_worker.providers.dialing import trust
from genqueue_worker.providers.errors import ProviderError
from genqueue_worker.providers.seam import Route
from genqueue_worker.providers.vertex_tokens import Token

#: What a token may be used for.
SCOPES: Final = ("https://www.googleapis.com/auth/cloud-platform",)

#: Seconds a request to the token endpoint may take where google-auth names none.
PATIENCE: Final = 10.0

#: What to do without a token: where there are no credentials, where they are refused, and where nobody answers.
NO_CREDENTIALS: Final = (
    "set GENQUEUE_VERTEX_CREDENTIALS to a service account's JSON key, or make Application Default Credentials: "
    "gcloud auth application-default login"
)
_REFUSED: Final = "see that the account exists, its key is in force, and this machine's clock is right"
_AWAY: Final = (
    "check the network, name servers and GENQUEUE_VERTEX_CA_FILE: tokens come from the credentials' token endpoint"
)

#: What google-auth stumbles over where JSON is not of the form it expects.
_MISSHAPEN: Final = (AttributeError, LookupError, TypeError)


class SignIn:
    """Gets tokens for a route, one at a time; credentials are read again after they failed."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._credentials: Credentials | None = None

    def __call__(self) -> Token:
        """Return a new token; raises ProviderError, as of a refused key when the credentials are none."""
        try:
            with _Transport(self._route.ca_file) as send:
                if self._credentials is None:
                    self._credentials = _load(self._route.credentials_file, send)
                _renew(self._credentials, send)
            return _token_of(self._credentials)
        except exceptions.TransportError as error:
            raise ProviderError("token_unavailable", _told(error, _AWAY), retryable=True) from error
        except (exceptions.GoogleAuthError, OSError, ValueError) as error:
            self._credentials = None
            if getattr(error, "retryable", False):
                raise ProviderError("token_unavailable", _told(error, _AWAY), retryable=True) from error
            advice = NO_CREDENTIALS if isinstance(error, exceptions.DefaultCredentialsError) else _REFUSED
            raise ProviderError("UNAUTHENTICATED", _told(error, advice), 401, doubts_key=True) from error


def _load(file: str | None, send: transport.Request) -> Credentials:
    try:
        return _found(file, send)
    except _MISSHAPEN as error:
        what = file or "what Application Default Credentials are in"
        raise exceptions.DefaultCredentialsError(f"{what}: no credentials of Google's") from error  # type: ignore[no-untyped-call]


def _found(file: str | None, send: transport.Request) -> Credentials:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files from strangers, and about users' own accounts
        if file is None:
            return google.auth.default(scopes=SCOPES, request=send)[0]
        loaded: Credentials
        loaded, _ = google.auth.load_credentials_from_file(file, SCOPES, request=send)  # type: ignore[no-untyped-call]
        return loaded


def _renew(credentials: Credentials, send: transport.Request) -> None:
    try:
        credentials.refresh(send)  # type: ignore[no-untyped-call]
    except _MISSHAPEN as error:
        raise exceptions.TransportError("what answered gives no tokens") from error  # type: ignore[no-untyped-call]


def _token_of(credentials: Credentials) -> Token:
    headers = {"authorization": f"Bearer {credentials.token}"}
    if quota_project := getattr(credentials, "quota_project_id", None):
        headers["x-goog-user-project"] = quota_project
    lifetime = None
    if credentials.expiry is not None:
        lifetime = (credentials.expiry - _now()).total_seconds()
        if lifetime <= 0:  # some say until when, by Google's clock: it would be got again without end
            raise exceptions.RefreshError("a new token is over already")  # type: ignore[no-untyped-call]
    return Token(headers, lifetime, _holder_of(credentials))


def _now() -> dt.datetime:
    """Return the time as google-auth notes the end of tokens: UTC, without saying so."""
    return dt.datetime.now(dt.UTC).replace(tzinfo=None)


def _holder_of(credentials: Credentials) -> str:
    """Return whose credentials they are, as far as they say."""
    return str(getattr(credentials, "service_account_email", None) or "") or type(credentials).__module__


def _told(error: Exception, advice: str) -> str:
    own = isinstance(error, exceptions.GoogleAuthError)  # its text shows what else it was given
    said = error.args[0] if own and error.args else str(error) or type(error).__name__
    return f"no access token for Vertex AI ({' '.join(str(said).split())}); {advice}"


class _Transport(transport.Request):
    """google-auth's way to the network, over httpx: it trusts what the route's connections trust."""

    def __init__(self, ca_file: str | None) -> None:
        try:
            authority = Path(ca_file).read_bytes() if ca_file is not None else None
            trusted = trust(authority, "http/1.1")
        except (OSError, ValueError) as error:  # no fault of the credentials
            raise exceptions.TransportError(f"{ca_file}: {error}") from error  # type: ignore[no-untyped-call]
        self._client = httpx.Client(verify=trusted, timeout=PATIENCE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def __call__(
        self,
        url: str,
        method: str = "GET",
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        timeout: float | None = None,
        **_: Any,
    ) -> "_Response":
        try:
            return _Response(
                self._client.request(method, url, content=body, headers=headers, timeout=timeout or PATIENCE)
            )
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise exceptions.TransportError(str(error) or type(error).__name__) from error  # type: ignore[no-untyped-call]


class _Response(transport.Response):
    def __init__(self, answer: httpx.Response) -> None:
        self._answer = answer

    @property
    def status(self) -> int:
        return self._answer.status_code

    @property
    def headers(self) -> Mapping[str, str]:
        return self._answer.headers

    @property
    def data(self) -> bytes:
        return self._answer.content
