"""Submitting when a Django transaction has committed, and not at all when it is rolled back."""

from __future__ import annotations

import importlib
import logging
from typing import TYPE_CHECKING, Any

from genqueue.errors import MissingExtra

if TYPE_CHECKING:
    from collections.abc import Callable

log = logging.getLogger("genqueue.on_commit")


def on_commit(submit: Callable[[], object], job_id: str, using: str | None) -> None:
    """Call `submit` once the transaction around has committed; at once outside of one.

    Args:
        submit: what submits the job.
        job_id: its id, for the log.
        using: alias of the database; Django's default when None.

    Raises:
        MissingExtra: Django is not installed.
    """
    try:
        transaction: Any = importlib.import_module("django.db.transaction")
    except ImportError as error:
        raise MissingExtra("django", "Django") from error

    def submit_now() -> None:
        try:
            submit()
        except Exception:
            log.exception("on_commit.failed job=%s; the transaction stands: submit again with this job_id", job_id)
            raise

    transaction.on_commit(submit_now, using=using)
