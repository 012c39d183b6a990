"""Google's token endpoint: service accounts sign in with their keys, and Bearer tokens are checked."""

from __future__ import annotations

import asyncio
import base64
import functools
import json
import secrets
import time
from typing import TYPE_CHECKING, Annotated, Any, Final
from urllib.parse import parse_qsl

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa

from genqueue_lab.emulator.delivery import send_json
from genqueue_lab.emulator.errors import bad_token, missing_token

if TYPE_CHECKING:
    from collections.abc import Mapping

    from genqueue_lab.emulator.exchange import Exchange, Request

#: Where tokens are given out.
PATH: Final = "/token"

_JWT_BEARER: Final = "urn:ietf:params:oauth:grant-type:jwt-bearer"
_SCOPE: Final = "https://www.googleapis.com/auth/cloud-platform"

#: Bits of an account's key; Google's own have 2048.
_KEY_BITS: Final = 2048


class Terms(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """On what terms tokens are given out.

    Attributes:
        lifetime: seconds for which a token is good.
        refuse: what a request for one is refused with, as `invalid_grant`; None gives tokens.
        hold: whether requests wait until they no longer have to.
    """

    lifetime: Annotated[float, msgspec.Meta(gt=0, le=86_400)] = 3600.0
    refuse: str | None = None
    hold: bool = False


class GrantError(Exception):
    """A request for a token that is refused, in OAuth's words."""

    def __init__(self, error: str, description: str) -> None:
        super().__init__(description)
        self.error = error
        self.description = description


class Tokens:
    """Gives out access tokens, and knows those in force."""

    def __init__(self) -> None:
        self.terms = Terms()
        self.issued = 0
        self.refused = 0
        self._let_go = asyncio.Event()
        self._accounts: set[str] = set()
        self._users: dict[str, str] = {}
        self._ends: dict[str, float] = {}

    @functools.cached_property
    def _key(self) -> rsa.RSAPrivateKey:
        """The key of all accounts: to make one takes the processor a fifth of a second."""
        return rsa.generate_private_key(65537, _KEY_BITS)

    def serves(self, request: Request) -> bool:
        """Whether a request is for the token endpoint."""
        return request.method == "POST" and request.path == PATH

    async def answer(self, exchange: Exchange) -> None:
        """Answer a request for a token."""
        while self.terms.hold:
            await self._let_go.wait()
        terms = self.terms
        try:
            self._admit(dict(parse_qsl(exchange.request.body.decode())), terms)
        except GrantError as error:
            self.refused += 1
            await send_json(exchange, 400, {"error": error.error, "error_description": error.description}, [])
            return
        self.issued += 1
        token = f"ya29.{secrets.token_urlsafe(48)}"
        self._ends[token] = time.monotonic() + terms.lifetime
        granted = {"access_token": token, "expires_in": terms.lifetime, "token_type": "Bearer", "scope": _SCOPE}
        await send_json(exchange, 200, granted, [])

    def check(self, request: Request) -> None:
        """Raise GoogleError unless a request shows a token in force."""
        scheme, _, token = request.headers.get("authorization", "").partition(" ")
        if not token:
            raise missing_token()
        if scheme.lower() != "bearer" or self._ends.get(token, 0.0) <= time.monotonic():
            raise bad_token("ACCESS_TOKEN_EXPIRED" if token in self._ends else "ACCESS_TOKEN_TYPE_UNSUPPORTED")

    def describe(self) -> dict[str, Any]:
        """Return the terms, and how many tokens were given out and refused."""
        return {**msgspec.structs.asdict(self.terms), "issued": self.issued, "refused": self.refused}

    def change(self, values: Mapping[str, Any]) -> dict[str, Any]:
        """Change the terms and return those before. ValueError names what does not fit."""
        before = msgspec.structs.asdict(self.terms)
        self.terms = msgspec.convert({**before, **values}, Terms)
        let_go, self._let_go = self._let_go, asyncio.Event()
        let_go.set()
        return before

    def revoke(self) -> int:
        """Take back all tokens and return how many were in force."""
        ends, self._ends = self._ends, {}
        return sum(end > time.monotonic() for end in ends.values())

    def open_account(self, base_url: str, kind: str = "service_account", project: str = "genqueue") -> dict[str, str]:
        """Return the JSON key of a new account of this emulator; ValueError for a kind there is not."""
        match kind:
            case "service_account":
                return self._open_service_account(project, base_url + PATH)
            case "authorized_user":
                return self._open_user(project, base_url + PATH)
            case _:
                raise ValueError(f"kind {kind!r}: expected service_account or authorized_user")

    def _open_service_account(self, project: str, token_uri: str) -> dict[str, str]:
        address = f"worker-{secrets.token_hex(4)}@{project}.iam.gserviceaccount.com"
        self._accounts.add(address)
        pem = self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        return {
            "type": "service_account",
            "project_id": project,
            "private_key_id": secrets.token_hex(20),
            "private_key": pem.decode(),
            "client_email": address,
            "client_id": "1",
            "token_uri": token_uri,
            "universe_domain": "googleapis.com",
        }

    def _open_user(self, project: str, token_uri: str) -> dict[str, str]:
        """Return the credentials of a new user, as `gcloud auth application-default login` leaves them."""
        refresh_token = f"1//{secrets.token_urlsafe(32)}"
        self._users[refresh_token] = secret = secrets.token_urlsafe(16)
        return {
            "type": "authorized_user",
            "client_id": "emulator.apps.googleusercontent.com",
            "client_secret": secret,
            "refresh_token": refresh_token,
            "quota_project_id": project,
            "token_uri": token_uri,
        }

    def _admit(self, form: dict[str, str], terms: Terms) -> None:
        """Raise GrantError unless somebody known asks."""
        if terms.refuse is not None:
            raise GrantError(terms.refuse, "as the emulator was told")
        match form.get("grant_type"):
            case "refresh_token":
                if self._users.get(form.get("refresh_token", "")) != form.get("client_secret", ""):
                    raise GrantError("invalid_grant", "Bad Request")
            case grant if grant == _JWT_BEARER:
                self._check_assertion(form.get("assertion", ""))
            case _:
                raise GrantError("unsupported_grant_type", f"Invalid grant_type: {form.get('grant_type')}")

    def _check_assertion(self, assertion: str) -> None:
        signed, _, signature = assertion.rpartition(".")
        try:
            claims = json.loads(_unpadded(signed.partition(".")[2]))
            self._key.public_key().verify(_unpadded(signature), signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        except (ValueError, TypeError, InvalidSignature) as error:
            raise GrantError("invalid_grant", "Invalid JWT Signature.") from error
        if claims.get("iss") not in self._accounts:
            raise GrantError("invalid_grant", "Invalid grant: account not found")
        if not claims.get("exp", 0) > time.time() or not str(claims.get("aud")).endswith(PATH):
            raise GrantError("invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes)")
        if _SCOPE not in str(claims.get("scope")).split():
            raise GrantError("invalid_scope", "Invalid OAuth scope or ID token audience provided.")


def _unpadded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
