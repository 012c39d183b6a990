"""What a check found."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from genqueue_worker.settings import WorkerSettings

Level = Literal["ok", "warn", "fail"]

#: The user and password of a URL.
_CREDENTIALS = re.compile(r"(?<=://)[^\s'\"]*@")


@dataclass(frozen=True, slots=True)
class Finding:
    """One row of the report.

    Attributes:
        check: what was looked at.
        level: "fail" when jobs cannot run or may be lost, "warn" when it should be better.
        found: what is there.
        advice: what to do about it; empty when nothing.
    """

    check: str
    level: Level
    found: str
    advice: str = ""


def without_secrets(finding: Finding, settings: WorkerSettings | None) -> Finding:
    """Return the finding with keys and passwords blotted out, whatever library wrote them into a message."""
    secrets = set() if settings is None else _secrets(settings)

    def clean(text: str) -> str:
        text = _CREDENTIALS.sub("***@", " ".join(text.split()))
        for secret in secrets:
            text = text.replace(secret, "***")
        return text

    return Finding(finding.check, finding.level, clean(finding.found), clean(finding.advice))


def _secrets(settings: WorkerSettings) -> set[str]:
    asked = (settings.gemini_base_url, settings.vertex_base_url or "", settings.openai_base_url)
    urls = (settings.data_url, settings.broker, *asked, settings.done_broker_url or "")
    found = {urlsplit(url).password for url in urls}
    for key in (settings.gemini_api_key, settings.openai_api_key):
        if key is not None:
            found.add(key.get_secret_value())
    if settings.webhook_secrets is not None:
        found.update(secret.strip() for secret in settings.webhook_secrets.get_secret_value().split(","))
    return {secret for secret in found if secret is not None and len(secret) > 3}
