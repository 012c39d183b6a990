# ruff: noqa: INP001 - a file to copy
"""A Django service, in one file, that submits questions with a transaction and streams the answers to browsers.

DJANGO_DATABASE=/tmp/questions.db python django_app.py migrate
gunicorn --preload -k gthread --threads 20 django_app:application    (WSGI; -k gevent for more readers)
uvicorn --lifespan off django_app:asgi_application                   (ASGI)
curl -d question="Why is the sky blue" http://127.0.0.1:8000/jobs
curl -N http://127.0.0.1:8000/jobs/<job id>/events
"""

from __future__ import annotations

import os
import secrets
import sys

import django
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.wsgi import get_wsgi_application
from django.http import HttpRequest, HttpResponseBase, JsonResponse, StreamingHttpResponse
from django.urls import path

import genqueue

MODEL = os.environ.get("MODEL", "gemini-2.5-flash")

#: Seconds of silence after which a heartbeat goes out; under WSGI it also finds out who has left.
HEARTBEAT = float(os.environ.get("HEARTBEAT", "15"))

settings.configure(
    ALLOWED_HOSTS=["127.0.0.1", "localhost"],
    DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": os.environ["DJANGO_DATABASE"]}},
    LOGGING={
        "version": 1,
        "disable_existing_loggers": False,
        "handlers": {"console": {"class": "logging.StreamHandler"}},
        "root": {"handlers": ["console"], "level": "INFO"},
    },
    ROOT_URLCONF=__name__,
    SECRET_KEY=os.environ.get("DJANGO_SECRET_KEY") or secrets.token_hex(),
    USE_TZ=True,
)
django.setup()

from django.db import connection, models, transaction  # noqa: E402 - Django wants its settings first

#: Both connect on first use, in the process (and on the loop) that uses them: safe with --preload.
client = genqueue.Client()
async_client = genqueue.AsyncClient()


class Question(models.Model):  # type: ignore[misc] # Django ships no types
    """A question somebody asked, and the job that answers it."""

    text = models.TextField()
    job_id = models.CharField(max_length=40)

    class Meta:
        """Where it belongs, as this file is no installed app."""

        app_label = "questions"

    def __str__(self) -> str:
        return str(self.text)


def ask(request: HttpRequest) -> HttpResponseBase:
    """Keep a question and queue it: both or neither."""
    text = request.POST.get("question", "")
    try:
        with transaction.atomic():
            job = client.submit_on_commit(text, model=MODEL, lane="high")
            Question.objects.create(text=text, job_id=job.id)
    except genqueue.InvalidRequest as error:
        return JsonResponse({"error": str(error)}, status=400)
    return JsonResponse({"job_id": job.id})


def events(request: HttpRequest, job_id: str) -> HttpResponseBase:
    """Stream an answer under WSGI."""
    return _stream(client, request, job_id)


async def async_events(request: HttpRequest, job_id: str) -> HttpResponseBase:
    """Stream an answer under ASGI."""
    return _stream(async_client, request, job_id)


def _stream(asked: genqueue.Client | genqueue.AsyncClient, request: HttpRequest, job_id: str) -> HttpResponseBase:
    try:
        body = genqueue.sse(
            asked.job(job_id),
            # A browser that lost its connection comes back with it by itself.
            request.headers.get("Last-Event-ID"),
            heartbeat=HEARTBEAT,
            cancel_on_disconnect="cancel" in request.GET,
        )
    except genqueue.InvalidRequest as error:
        return JsonResponse({"error": str(error)}, status=400)
    # Nginx would gather the events.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingHttpResponse(body, content_type="text/event-stream", headers=headers)


urlpatterns = [
    path("jobs", ask),
    path("jobs/<str:job_id>/events", events),
    path("async/jobs/<str:job_id>/events", async_events),
]

application = get_wsgi_application()
asgi_application = get_asgi_application()


if __name__ == "__main__" and sys.argv[1:] == ["migrate"]:
    with connection.schema_editor() as editor:
        editor.create_model(Question)
