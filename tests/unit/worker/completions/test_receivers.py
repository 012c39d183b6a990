"""Receivers that give no answer."""

import pytest

from genqueue_worker.completions import receivers
from genqueue_worker.completions.receivers import PROBES, Receivers, receiver_of


def silence(known, receiver):
    """Have a delivery end without an answer."""
    with pytest.raises(TimeoutError), known.telling(receiver):
        raise TimeoutError


def test_a_receiver_is_a_host_and_its_port():
    """Whatever the path; for signatures it is the broker."""
    assert receiver_of({"url": "https://example.com:8443/done?x=1"}) == "example.com:8443"
    assert receiver_of({"task": "billing.note"}) == ""


def test_a_silent_receiver_is_told_little_at_once():
    """Until it answers; others are told as ever."""
    known = Receivers()
    under_way = [known.telling("slow") for _ in range(PROBES)]
    for delivery in under_way:
        delivery.__enter__()
    assert not known.crowded("slow")
    silence(known, "slow")
    assert known.crowded("slow")
    assert not known.crowded("quick")
    for delivery in under_way:
        delivery.__exit__(None, None, None)
    assert not known.crowded("slow")


def test_the_longest_silent_are_forgotten(monkeypatch):
    """Their number is bounded, whatever names callers think of."""
    monkeypatch.setattr(receivers, "REMEMBERED", 2)
    monkeypatch.setattr(receivers, "PROBES", 0)
    known = Receivers()
    for receiver in ("a", "b", "a", "c"):
        silence(known, receiver)
    assert [known.crowded(receiver) for receiver in "abc"] == [True, False, True]
