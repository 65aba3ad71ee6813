"""Live changes as server-sent events: ``event: KIND``, ``data: {"id": ...}``.

Rules that hold here:
- an event is a hint; a reader that connects again reads anew what it shows;
- a silent stream has a comment every HEARTBEAT_S, so that both ends notice one that is gone;
- at most MAX_SUBSCRIBERS streams, and all end when the hub stops.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import queue
import threading
from collections.abc import AsyncIterator

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from edgewise_hub.api.auth import HubDep
from edgewise_hub.api.errors import ApiError
from edgewise_hub.events import Event
from edgewise_hub.hub import Hub

HEARTBEAT_S = 15.0
MAX_SUBSCRIBERS = 100

router = APIRouter(tags=["events"])


class Streams:
    """The event streams of one application: counted, and ended together."""

    def __init__(self) -> None:
        self.open = 0
        self.closing = threading.Event()

    def close(self, hub: Hub) -> None:
        """End them all."""
        self.closing.set()
        hub.events.publish("hub", "closing")


@router.get(
    "/events",
    response_class=StreamingResponse,
    responses={200: {"content": {"text/event-stream": {"schema": {"type": "string"}}}}},
)
async def watch_events(request: Request, hub: HubDep) -> StreamingResponse:
    """Live changes as server-sent events. ``event`` is device, rollout, judgement, alert, job, training-run or
    sample-request; ``data`` is ``{"id": ...}`` of the thing that changed: ask the API for it."""
    streams: Streams = request.app.state.streams
    if streams.open >= MAX_SUBSCRIBERS:
        raise ApiError(f"at most {MAX_SUBSCRIBERS} event streams", status=503, code="too-many-streams")
    return StreamingResponse(_events(hub, streams), media_type="text/event-stream")


async def _events(hub: Hub, streams: Streams) -> AsyncIterator[str]:
    loop, waker = asyncio.get_running_loop(), asyncio.Event()

    def wake() -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended, and its streams with it
            loop.call_soon_threadsafe(waker.set)

    waiting = hub.events.subscribe(wake)
    streams.open += 1
    try:
        yield "retry: 1000\n\n: connected\n\n"
        while not streams.closing.is_set():
            try:
                await asyncio.wait_for(waker.wait(), HEARTBEAT_S)
            except TimeoutError:
                yield ": alive\n\n"
            waker.clear()
            yield "".join(_drain(waiting))
    finally:
        streams.open -= 1
        hub.events.unsubscribe(waiting)


def _drain(waiting: queue.Queue[Event]) -> list[str]:
    """What waits, each change once."""
    changes: dict[Event, None] = {}
    while True:
        try:
            change = waiting.get_nowait()
        except queue.Empty:
            return [f"event: {kind}\ndata: {json.dumps({'id': identifier})}\n\n" for kind, identifier in changes]
        if change.kind != "hub":
            changes[change] = None
