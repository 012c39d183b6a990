"""The one error a provider raises."""

from typing import Final

#: Statuses with which a key is refused where the request is known to be right; Gemini says 400 of one nobody gave out.
REFUSED_STATUSES: Final = frozenset({400, 401, 403})


class ProviderError(Exception):
    """Say what the provider refused, broke or lost.

    `code` is the provider's own word where it gave one (`INVALID_ARGUMENT`) and ours in lower case where
    it did not (`read_timeout`, `truncated_stream`). `status` is the HTTP status, None where no answer came.
    `retryable` says whether the same request may succeed later, `retry_after` in how many seconds at the
    earliest, None where nobody said. `doubts_key` says that the key may be what was refused, not the request.
    """

    def __init__(
        self,
        code: str,
        message: str,
        status: int | None = None,
        retryable: bool = False,  # noqa: FBT001, FBT002 - positional, so that the error survives pickling
        retry_after: float | None = None,
        doubts_key: bool = False,  # noqa: FBT001, FBT002
    ) -> None:
        super().__init__(code, message, status, retryable, retry_after, doubts_key)
        self.code = code
        self.message = message
        self.status = status
        self.retryable = retryable
        self.retry_after = retry_after
        self.doubts_key = doubts_key

    def __str__(self) -> str:
        status = f" (HTTP {self.status})" if self.status is not None else ""
        return f"{self.code}{status}: {self.message}"
