"""Publishing the Celery message of an `on_done` signature."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from celery import Celery

if TYPE_CHECKING:
    from collections.abc import Mapping

#: Seconds a connection to the broker, and one command, may take.
_CONNECT: Final = 5.0

#: Makes the id of a job's message, the same whenever it is published again.
_NAMESPACE: Final = uuid.UUID("5f0b9c0a-8d5e-5b0e-9f0c-3f6a2b1d7c44")


def task_id(job: str) -> str:
    """Return the id of a job's message."""
    return str(uuid.uuid5(_NAMESPACE, job))


class Messages:
    """Publishes tasks to a broker through an app of its own, which never becomes the process's current one."""

    def __init__(self, broker: str) -> None:
        self._broker = broker
        self._app = Celery("genqueue-completions", broker=broker, set_as_current=False)
        options: dict[str, Any] = {"max_retries": 0}
        if urlsplit(broker).scheme in {"redis", "rediss"}:
            options |= {"socket_connect_timeout": _CONNECT, "socket_timeout": _CONNECT}
        self._app.conf.update(task_serializer="json", accept_content=["json"], broker_transport_options=options)

    def publish(self, signature: Mapping[str, Any], job: str, data: Mapping[str, Any], traceparent: str = "") -> None:
        """Publish a signature's task, blocking; raises what kombu raises.

        The task's first argument is `data`, as a link callback's is the result; an immutable one gets its own only.
        """
        first = () if signature.get("immutable") else (data,)
        # The URL is given: Celery would prefer one in the environment.
        with self._app.connection_for_write(self._broker, connect_timeout=_CONNECT) as connection:
            self._app.send_task(
                signature["task"],
                args=[*first, *signature["args"]],
                kwargs=signature["kwargs"],
                task_id=task_id(job),
                headers={"traceparent": traceparent} if traceparent else None,
                connection=connection,
                ignore_result=True,
                retry=False,
                **signature["options"],
            )

    def close(self) -> None:
        """Close the app."""
        self._app.close()
