"""Finding jobs by what Flower and the logs show: the id of a job, of a flight, or of a Celery task."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from genqueue.errors import InvalidRequest, JobNotFound
from genqueue.patience import BRIEF, Patience, ask
from genqueue.reservation import Reservation

if TYPE_CHECKING:
    from genqueue.keys import Keys
    from genqueue.steps import Operation

#: Prefix of the idempotency keys that the task `genqueue.submit` takes from its own id.
CELERY: Final = "celery:"

#: The id of a task `genqueue.generate`: its flight, and the stamp of its message.
_GENERATE: Final = re.compile(r"(.+)\.[0-9]{1,18}")


def find(keys: Keys, name: str, tenant: str, patience: Patience = BRIEF) -> Operation[list[str]]:
    """Return the ids of the jobs that a name leads to.

    Args:
        keys: the deployment's.
        name: id of a job; of a flight, which leads to all its members; of a Celery task, `genqueue.generate` or
            `genqueue.submit`.
        tenant: of the job that a `genqueue.submit` admitted.
        patience: how long to go on while the server is away.

    Raises:
        JobNotFound: it leads to none.
    """
    generate = _GENERATE.fullmatch(name)
    identifier = generate[1] if generate else name
    try:
        asked = (("EXISTS", keys.job(identifier)), ("ZRANGE", keys.members(identifier), 0, -1))
    except InvalidRequest:
        return [(yield from _admitted(keys, name, tenant, patience))]
    is_job, members = yield from ask(asked, patience)
    if is_job:
        return [identifier]
    if not members:
        raise JobNotFound(name)
    return [member.decode() for member in members]


def _admitted(keys: Keys, task_id: str, tenant: str, patience: Patience) -> Operation[str]:
    (stored,) = yield from ask((("GET", keys.idempotency(tenant, CELERY + task_id)),), patience)
    if stored is None:
        raise JobNotFound(task_id)
    return Reservation.parse(stored).job
