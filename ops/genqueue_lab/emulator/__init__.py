"""Gemini's Developer API on the loopback interface: real wire, settable pace, and statistics from the server's side."""

from genqueue_lab.emulator.options import Options, Pace
from genqueue_lab.emulator.process import EmulatorProcess

__all__ = ["EmulatorProcess", "Options", "Pace"]
