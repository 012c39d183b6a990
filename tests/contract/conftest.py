"""What the contract's tests may ask for besides servers."""

import pytest

from genqueue.keys import Keys

from .golden_streams import Stage


@pytest.fixture
def set_stage(database_url, prefix):
    """Make streams to be read, each with a job aboard, on an empty database."""
    import redis

    with redis.Redis.from_url(database_url) as connection:
        yield lambda mark: Stage(connection, Keys(prefix), mark)


@pytest.fixture
def link(database_url):
    """Return a plain connection to an empty database."""
    # Here, not above: hiredis is no part of the SDK.
    from tests.integration.ledger_rounds.link import Link

    with Link(database_url) as connection:
        yield connection


@pytest.fixture
def desk(link, prefix):
    """Return the ledger's calls on a partition and a clock of the test's own."""
    from tests.integration.ledger_desk import Desk

    return Desk(link, prefix)
