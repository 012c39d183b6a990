"""Carrying out steps: connections to the data server and the broker, blocking and asyncio."""

from genqueue.connections.aio import AsyncConnection
from genqueue.connections.blocking import BlockingConnection
from genqueue.connections.server import Sending, connection_options, unavailable

__all__ = ["AsyncConnection", "BlockingConnection", "Sending", "connection_options", "unavailable"]
