"""Submitting with Django's transaction, on a real data server and a database in memory."""

import logging
import sys

import django
import pytest
import redis
from django.conf import settings as django_settings
from django.db import connections, transaction

from genqueue import Client, InvalidRequest
from genqueue.errors import JobNotFound, MissingExtra, ServerUnavailable
from genqueue_lab.servers import free_port

ASKED = {"model": "gemini-2.5-flash", "lane": "high"}


@pytest.fixture(scope="module", autouse=True)
def databases():
    """Two databases of a Django project."""
    in_memory = {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
    django_settings.configure(DATABASES={"default": in_memory, "other": in_memory}, USE_TZ=True)
    django.setup()
    yield
    connections.close_all()


@pytest.fixture
def client(settings):
    """A client of the test's own deployment."""
    with Client(**settings) as made:
        yield made


def accepted(settings):
    """Return the ids of all jobs that were accepted."""
    with redis.Redis.from_url(settings["data_url"]) as raw:
        return {key.rpartition(b":")[2].decode() for key in raw.scan_iter(f"{settings['key_prefix']}:*:job:*")}


def test_a_job_is_submitted_by_the_commit(client, settings):
    """Its id is known before; nobody else knows the job until then."""
    with transaction.atomic():
        job = client.submit_on_commit("What?", **ASKED)
        assert not accepted(settings)
        with pytest.raises(JobNotFound):
            job.status()
    assert accepted(settings) == {job.id}
    assert job.status().state == "queued"


def test_a_rollback_submits_nothing(client, settings):
    """Nor does a savepoint's."""
    with transaction.atomic():
        client.submit_on_commit("What?", **ASKED)
        transaction.set_rollback(True)
    with transaction.atomic():
        kept = client.submit_on_commit("Kept?", **ASKED)
        with transaction.atomic():
            client.submit_on_commit("Lost?", **ASKED)
            transaction.set_rollback(True)
    assert accepted(settings) == {kept.id}


def test_without_a_transaction_it_is_submitted_at_once(client, settings):
    """As Django does with whatever is to be done on commit."""
    job = client.submit_on_commit("What?", **ASKED)
    assert accepted(settings) == {job.id}


def test_it_is_the_transaction_of_the_database_that_is_named(client, settings):
    """The default one's, unless another is."""
    with transaction.atomic(using="other"):
        at_once = client.submit_on_commit("Mine?", **ASKED)
        later = client.submit_on_commit("Theirs?", using="other", **ASKED)
        assert accepted(settings) == {at_once.id}
    assert accepted(settings) == {at_once.id, later.id}


@pytest.mark.parametrize("wrong", [{"lane": "urgent"}, {"idempotency_key": "mine"}, {"temperature": 9}])
def test_what_is_wrong_is_said_at_once(client, settings, wrong):
    """While the transaction can still be rolled back."""
    with transaction.atomic(), pytest.raises(InvalidRequest, match=next(iter(wrong))):
        client.submit_on_commit("What?", **{**ASKED, **wrong})
    assert not accepted(settings)


def test_a_submit_that_fails_is_logged_with_the_job_and_raised(caplog):
    """The transaction stands; whoever reads the log can submit the job again."""
    caplog.set_level(logging.ERROR)
    client = Client(data_url=f"redis://127.0.0.1:{free_port()}/0")
    with pytest.raises(ServerUnavailable), transaction.atomic():
        job = client.submit_on_commit("What?", **ASKED)
    client.close()
    assert f"on_commit.failed job={job.id}" in caplog.text
    assert not connections["default"].in_atomic_block


def test_without_django_it_says_what_is_missing(client, monkeypatch):
    """Only here: nothing else of the SDK needs it."""
    monkeypatch.setitem(sys.modules, "django.db.transaction", None)
    with pytest.raises(MissingExtra, match="Django is not installed"):
        client.submit_on_commit("What?", **ASKED)
