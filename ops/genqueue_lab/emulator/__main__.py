"""Run the emulator: `python -m genqueue_lab.emulator`."""

from genqueue_lab.emulator.command import emulator

emulator(prog_name="python -m genqueue_lab.emulator")
