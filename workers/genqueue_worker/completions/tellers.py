"""How ends are told: by webhook, or by a Celery message."""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from genqueue_worker.completions.messages import Messages
from genqueue_worker.completions.notice import notice
from genqueue_worker.completions.webhooks import Message, Webhooks

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping

    from genqueue.keys import Keys
    from genqueue.ledger import Completion
    from genqueue.payload.codec import Codec
    from genqueue_worker.settings import WorkerSettings

#: Threads that look names up and publish. Of their own: a resolver or a broker that hangs holds up no generation.
THREADS: Final = 32

#: What stands for a status where a broker took the message.
_TAKEN: Final = 202


@dataclass(frozen=True, slots=True)
class Tellers:
    """How ends are told."""

    webhooks: Webhooks
    messages: Messages
    keys: Keys
    codec: Codec
    threads: Executor

    async def tell(self, whom: Mapping[str, Any], completion: Completion) -> int:
        """Tell of an end and return the status of the answer; raises NotSent, or what kombu raises."""
        if "url" in whom:
            return await self._post(whom["url"], completion)
        await self._publish(whom, completion)
        return _TAKEN

    async def _post(self, url: str, completion: Completion) -> int:
        body = json.dumps(notice(completion, self.keys, self.codec), separators=(",", ":")).encode()
        return await self.webhooks.post(url, Message(f"msg_{completion.job}", body, completion.traceparent))

    async def _publish(self, signature: Mapping[str, Any], completion: Completion) -> None:
        data = notice(completion, self.keys, self.codec)["data"]
        publishing = partial(self.messages.publish, signature, completion.job, data, completion.traceparent)
        await asyncio.get_running_loop().run_in_executor(self.threads, publishing)


@asynccontextmanager
async def tellers(settings: WorkerSettings, keys: Keys, codec: Codec) -> AsyncIterator[Tellers]:
    """Return what the settings say ends are told with, and close it behind the block."""
    ca_file = str(settings.webhook_ca_file) if settings.webhook_ca_file else None
    threads = ThreadPoolExecutor(THREADS, thread_name_prefix="genqueue-completions")
    webhooks = Webhooks(settings.webhook_keys, settings.webhook_addresses, threads, ca_file)
    messages = Messages(settings.done_broker_url or settings.broker)
    try:
        yield Tellers(webhooks, messages, keys, codec, threads)
    finally:
        await webhooks.aclose()
        messages.close()
        threads.shutdown(wait=False, cancel_futures=True)
