"""The `genqueue` command."""

from genqueue.cli.group import main

__all__ = ["main"]
