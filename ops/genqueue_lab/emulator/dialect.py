"""What differs between the ways in which Gemini is offered."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from genqueue_lab.emulator.delivery import Reply
from genqueue_lab.emulator.errors import quota_exceeded
from genqueue_lab.emulator.fields import COUNT, GENERATE

if TYPE_CHECKING:
    from collections.abc import Callable

    from genqueue_lab.emulator.errors import GoogleError
    from genqueue_lab.emulator.fields import Message
    from genqueue_lab.emulator.quotas import Excess


@dataclass(frozen=True, slots=True)
class Dialect:
    """One way.

    Attributes:
        generate, count: what may be asked.
        reply: writes answers.
        exceeded: makes the error of a request too many for a model.
    """

    generate: Message
    count: Message
    reply: type[Reply]
    exceeded: Callable[[Excess, str], GoogleError]


DEVELOPER = Dialect(GENERATE, COUNT, Reply, quota_exceeded)
