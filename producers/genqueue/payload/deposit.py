"""Blobs of orders on their way: written before the submit, taken back when their own flight does not need them."""

from __future__ import annotations

import logging
from functools import partial
from typing import TYPE_CHECKING

from genqueue.errors import ServerUnavailable
from genqueue.steps import Work

if TYPE_CHECKING:
    from collections.abc import Iterable

    from genqueue.intake import Candidate
    from genqueue.payload.blobs import BlobStore
    from genqueue.steps import Operation

log = logging.getLogger("genqueue.payload.blobs")


def put(store: BlobStore, candidates: Iterable[Candidate]) -> Operation[None]:
    """Write the blobs of candidates; once the store has failed, that candidate and those behind it end."""
    away: ServerUnavailable | None = None
    for candidate in candidates:
        tenant, flight = candidate.submission.tenant, candidate.submission.flight
        try:
            if away is None:
                yield Work(partial(store.put, tenant, flight, candidate.stored.blobs))
        except ServerUnavailable as error:
            away = error
        candidate.outcome = away


def take_back(store: BlobStore, candidates: Iterable[Candidate]) -> Operation[None]:
    """Delete the blobs of candidates that fly with another, or not at all; what fails is left to `blobs clean`."""
    for candidate in candidates:
        tenant, flight = candidate.submission.tenant, candidate.submission.flight
        try:
            yield Work(partial(store.delete, tenant, flight))
        except ServerUnavailable as error:
            log.warning("blobs.left flight=%s error=%s; genqueue blobs clean deletes them", flight, error)
