"""Long work: its state, and what happens as server-sent events."""

import json
from collections.abc import Iterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import StreamingResponse

from octo_pipeline.api.callers import Viewer
from octo_pipeline.api.operations import Operation

router = APIRouter(prefix="/operations", tags=["operations"])

_HEARTBEAT_SECONDS = 15


@router.get("")
def list_operations(request: Request, _: Viewer) -> list[dict[str, Any]]:
    """The operations of this server, newest first."""
    return [operation.as_json() for operation in request.app.state.operations.all()]


@router.get("/{operation_id}")
def get_operation(request: Request, _: Viewer, operation_id: str) -> dict[str, Any]:
    """The state of an operation and what happened so far."""
    operation: Operation = request.app.state.operations.get(operation_id)
    return operation.as_json()


@router.get("/{operation_id}/events")
def get_events(request: Request, _: Viewer, operation_id: str) -> StreamingResponse:
    """What happens, as server-sent events; the last one is `done` with the operation."""
    operation = request.app.state.operations.get(operation_id)

    def events() -> Iterator[str]:
        seen = 0
        while True:
            news = request.app.state.operations.wait_for_news(operation, seen, _HEARTBEAT_SECONDS)
            for sentence in news:
                yield f"data: {json.dumps(sentence)}\n\n"
            seen += len(news)
            if operation.is_done and seen == len(operation.events):
                yield f"event: done\ndata: {json.dumps(operation.as_json())}\n\n"
                return
            if not news:
                # So that a proxy does not take the connection for dead.
                yield ": waiting\n\n"

    return StreamingResponse(events(), media_type="text/event-stream")
