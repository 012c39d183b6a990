"""Gemini's Developer API on the loopback interface: real wire, settable pace, and statistics from the server's side."""

from genqueue_lab.emulator.options import NOBODY_ELSE, Options, Pace
from genqueue_lab.emulator.process import EmulatorProcess

__all__ = ["NOBODY_ELSE", "EmulatorProcess", "Options", "Pace"]
