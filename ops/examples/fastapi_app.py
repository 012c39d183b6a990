# ruff: noqa: INP001 - a file to copy
"""A FastAPI service that submits questions and streams the answers to browsers.

uvicorn fastapi_app:app
curl -X POST "http://127.0.0.1:8000/jobs?question=Why+is+the+sky+blue"
curl -N http://127.0.0.1:8000/jobs/<job id>/events
"""

from __future__ import annotations

import os
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Annotated

from fastapi import FastAPI, Header, Request
from fastapi.responses import JSONResponse, StreamingResponse

import genqueue
from genqueue.errors import CallerError, JobNotFound

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MODEL = os.environ.get("MODEL", "gemini-2.5-flash")

#: Seconds of silence after which a heartbeat goes out; shorter than any proxy's patience.
HEARTBEAT = float(os.environ.get("HEARTBEAT", "15"))

#: Connects on first use, in the process and on the loop that uses it.
client = genqueue.AsyncClient()


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    """Close the client with the service."""
    yield
    await client.aclose()


app = FastAPI(lifespan=lifespan)


@app.exception_handler(CallerError)
async def refuse(_request: Request, error: CallerError) -> JSONResponse:
    """Answer 404 for a job nobody knows, 400 for any other mistake of the caller's."""
    return JSONResponse({"error": str(error)}, status_code=404 if isinstance(error, JobNotFound) else 400)


@app.post("/jobs")
async def submit(question: str, lane: str = "high") -> dict[str, str]:
    """Queue a question."""
    job = await client.submit(question, model=MODEL, lane=lane)  # type: ignore[arg-type] # checked by submit
    return {"job_id": job.id}


@app.get("/jobs/{job_id}")
async def result(job_id: str) -> dict[str, str]:
    """Wait for a whole answer."""
    return {"text": await client.job(job_id).text(timeout=30)}


@app.get("/jobs/{job_id}/events")
async def events(
    job_id: str,
    *,
    cancel: bool = False,
    last_event_id: Annotated[str | None, Header()] = None,
) -> StreamingResponse:
    """Stream an answer; a browser that lost its connection comes back with the header Last-Event-ID by itself."""
    body = genqueue.sse(client.job(job_id), last_event_id, heartbeat=HEARTBEAT, cancel_on_disconnect=cancel)
    # Nginx would gather the events.
    headers = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
    return StreamingResponse(body, media_type="text/event-stream", headers=headers)
