"""Checks of everything a worker needs, for people: what was found, and what to do about it."""
