"""Drills: each causes one kind of failure under load, audits what became of every job, and says whether it held."""
