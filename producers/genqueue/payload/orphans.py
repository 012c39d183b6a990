"""Blobs that nobody needs any more: those of flights whose request is gone, or that never came to be."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Final

from genqueue.errors import InvalidRequest, SettingsError
from genqueue.patience import BRIEF, ask
from genqueue.steps import Work

if TYPE_CHECKING:
    from genqueue.keys import Keys
    from genqueue.payload.blobs import BlobFolder, BlobStore
    from genqueue.steps import Operation

#: Flights asked for in one round trip.
BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Cleaned:
    """What was found.

    Attributes:
        orphans: flights whose blobs were deleted, or would be.
        kept: flights whose blobs were left: their request is there, or they are too young.
    """

    orphans: tuple[BlobFolder, ...]
    kept: int


def clean(store: BlobStore, keys: Keys, before: float, *, delete: bool) -> Operation[Cleaned]:
    """Delete the blobs of flights that have no request.

    Args:
        store: where they are.
        keys: of the deployment whose they are.
        before: seconds since 1970; what was written later may belong to a submit that is under way.
        delete: False only looks.

    Raises:
        SettingsError: the data server knows no such deployment: by what it says nobody would need any blob.
    """
    (deployment,) = yield from ask((("EXISTS", keys.meta()),), BRIEF)
    if not deployment:
        problem = f"no deployment there ({keys.meta()}), expected the one whose blobs these are"
        raise SettingsError([f"GENQUEUE_DATA_URL, GENQUEUE_KEY_PREFIX: {problem}"])
    folders: list[BlobFolder] = yield Work(lambda: list(store.folders()))
    old = [one for one in folders if one.modified.timestamp() < before and _is_flight(keys, one.flight)]
    orphans: list[BlobFolder] = []
    for start in range(0, len(old), BATCH):
        batch = old[start : start + BATCH]
        needed = yield from ask((("HEXISTS", keys.flight(one.flight), "request") for one in batch), BRIEF)
        orphans += [one for one, is_needed in zip(batch, needed, strict=True) if not is_needed]
    for one in orphans if delete else ():
        yield Work(partial(store.delete, one.tenant, one.flight))
    return Cleaned(tuple(orphans), len(folders) - len(orphans))


def _is_flight(keys: Keys, name: str) -> bool:
    try:
        keys.partition_of_id(name)
    except InvalidRequest:
        return False
    return True
