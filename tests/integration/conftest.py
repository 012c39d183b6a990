"""What the integration tests may ask for besides servers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from .ledger_desk import Desk
from .ledger_rounds.link import Link

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture
def link(database_url: str, prefix: str) -> Iterator[Link]:
    """Return a connection to an empty database that hears every channel of the test's prefix."""
    with Link(database_url) as connection:
        connection.listen(f"{prefix}:*")
        yield connection


@pytest.fixture
def desk(link: Link, prefix: str) -> Desk:
    """Return the ledger's calls on a partition of the test's own."""
    return Desk(link, prefix)
