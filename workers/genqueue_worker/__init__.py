"""The fleet: Celery workers that stream generations on one asyncio loop."""
