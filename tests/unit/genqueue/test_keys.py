"""Ids, partitions and the names of keys."""

import re

import pytest

from genqueue.errors import InvalidRequest
from genqueue.keys import Keys

KEYS = Keys("gq", 64)
ID = "17-0123456789abcdef0123"


def test_ids_name_their_partition_and_are_never_the_same():
    """A fresh id can be read back to the partition it was made for."""
    made = [KEYS.new_id(5) for _ in range(1000)]
    assert len(set(made)) == len(made)
    assert {KEYS.partition_of_id(one) for one in made} == {5}


def test_ids_without_a_wish_spread_over_all_partitions():
    """Jobs that share nothing do not crowd one partition."""
    assert {KEYS.partition_of_id(KEYS.new_id()) for _ in range(5000)} == set(range(64))


@pytest.mark.parametrize(
    "value",
    [
        None,
        17,
        b"17-0123456789abcdef0123",
        "",
        "17",
        "64-0123456789abcdef0123",
        "-1-0123456789abcdef0123",
        "017-0123456789abcdef0123",
        "17-0123456789ABCDEF0123",
        "17-0123456789abcdef012",
        "17-0123456789abcdef0123\n",
        " 17-0123456789abcdef0123",
        "\u0661\u0667-0123456789abcdef0123",
        "17}-0123456789abcdef0123",
    ],
)
def test_what_is_no_id_is_refused_by_name(value):
    """A typo does not become a key."""
    with pytest.raises(InvalidRequest, match="an id as submit") as raised:
        KEYS.partition_of_id(value)
    assert raised.value.field == "job_id"


def test_all_keys_of_a_flight_are_in_one_slot():
    """A cluster puts them on one node: they share the part in braces."""
    keys = [KEYS.flight(ID), KEYS.events(ID), KEYS.job(ID), KEYS.bell(ID)]
    assert {re.search(r"\{(.*?)\}", key)[1] for key in keys} == {"17"}
    assert all(key.startswith(KEYS.slot_of_id(ID)) for key in keys)
    assert len(set(keys)) == len(keys)


def test_the_prefix_keeps_deployments_apart():
    """Two deployments on one server share no key."""
    other = Keys("other", 64)
    for name in ("flight", "events", "job", "bell"):
        assert getattr(KEYS, name)(ID) != getattr(other, name)(ID)
    assert {KEYS.meta(), KEYS.marks(), KEYS.inbox("w")}.isdisjoint({other.meta(), other.marks(), other.inbox("w")})


def test_a_fingerprint_has_one_partition():
    """The same question meets itself, whoever asks; different ones spread."""
    assert KEYS.partition_of_fingerprint("ff" * 32) == 0xFFFFFFFF % 64
    assert len({KEYS.partition_of_fingerprint(f"{n:08x}" + "0" * 56) for n in range(200)}) == 64


def test_slots_lists_every_partition_once():
    """Whoever looks after all partitions misses none."""
    assert [KEYS.slot(p) for p in range(64)] == [f"gq:{{{p}}}:" for p in range(64)]
