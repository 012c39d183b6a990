"""Settings and their documentation."""

import re

import pytest

from genqueue.settings import Settings
from genqueue_worker.settings import WorkerSettings


@pytest.mark.parametrize("settings", [Settings, WorkerSettings])
def test_every_setting_is_documented(settings):
    """The class docstring lists the class's own settings in order, and no other."""
    attributes = settings.__doc__.partition("Attributes:\n")[2]
    documented = [
        name for names in re.findall(r"^ {4,8}([a-z_, ]+):", attributes, re.MULTILINE) for name in names.split(", ")
    ]
    assert documented == [name for name in settings.__annotations__ if name in settings.model_fields]
