"""The Celery app for `celery -A genqueue_worker.app worker`, with settings from the environment."""

from genqueue_worker.factory import make_worker_app
from genqueue_worker.settings import WorkerSettings

app = make_worker_app(WorkerSettings.load())
