"""What the integration tests may ask for besides servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .ledger_desk import Desk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from .ledger_rounds.link import Link


@pytest.fixture
def link(database_url: str, prefix: str) -> Iterator[Link]:
    """Return a connection to an empty database that hears every channel of the test's prefix."""
    # Here, not above: hiredis is no part of the SDK, whose tests run without it too (make test-oldest).
    from .ledger_rounds.link import Link

    with Link(database_url) as connection:
        connection.listen(f"{prefix}:*")
        yield connection


@pytest.fixture
def desk(link: Link, prefix: str) -> Desk:
    """Return the ledger's calls on a partition of the test's own."""
    return Desk(link, prefix)
