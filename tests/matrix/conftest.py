"""These tests need Debian's tools: they run when they are asked for by name, as `make test-matrix` does."""

from pathlib import Path

import pytest
import redis
from tests.matrix.foreign import build

HERE = Path(__file__).parent


def pytest_ignore_collect(config):
    """Leave this folder out unless an argument names it."""
    asked = (config.invocation_params.dir / argument.split("::")[0] for argument in config.args)
    return None if any(path.resolve().is_relative_to(HERE) for path in asked) else True


@pytest.fixture(scope="session")
def commands(tmp_path_factory):
    """How each reader is started."""
    return build(tmp_path_factory.mktemp("go"))


@pytest.fixture
def link(database_url):
    """Return a plain connection to an empty database."""
    from tests.integration.ledger_rounds.link import Link

    with Link(database_url) as connection:
        yield connection


@pytest.fixture
def connection(database_url):
    """Return a client of an empty database."""
    with redis.Redis.from_url(database_url) as made:
        yield made
