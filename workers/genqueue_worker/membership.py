"""Staying in the deployment: a server that was replaced by an empty one knows nothing of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

from genqueue.errors import ServerUnavailable

if TYPE_CHECKING:
    from genqueue.connections import AsyncConnection

#: Seconds between two looks at what the deployment was made with.
LOOK: Final = 2.0


async def stay(front: AsyncConnection) -> None:
    """Look again and again, and make the deployment anew where there is none, until cancelled.

    Raises:
        SettingsError: it was made anew by somebody who has other partitions: this worker would not see its jobs.
    """
    while True:
        await asyncio.sleep(LOOK)
        try:
            await front.run(front.deployment.join())
        except ServerUnavailable:
            continue  # whoever has to write says so
