"""Following streams: bells, the place a reader has reached, and waiting for ends."""
