"""The process of one flight, when what it runs holds up its loop."""

import subprocess
import sys

HELD_UP = """
import asyncio, time
from genqueue_worker.nursery import _turning

async def main():
    with _turning(asyncio.get_running_loop(), 0.2):
        await asyncio.sleep(0.4)
        print("turned", flush=True)
        time.sleep(60)

asyncio.run(main())
"""


def test_a_process_whose_loop_is_held_up_ends_and_shows_where():
    """Nobody else could end it, as it reads neither signals nor its lifeline."""
    ended = subprocess.run([sys.executable, "-c", HELD_UP], capture_output=True, text=True, timeout=30, check=False)
    assert (ended.returncode, ended.stdout) == (1, "turned\n")
    assert "in main" in ended.stderr
