"""``/metrics`` for Prometheus: what requests take, and the state of the installation; and a line of the log per request.

A viewer's token opens it, which Prometheus sends as ``authorization: credentials``. Amounts are floats there, as everything in
Prometheus is: enough for an alert, not for the books.
"""

import logging
import time
from collections import Counter as Count
from collections.abc import Iterable, Iterator, Mapping
from importlib.metadata import version
from threading import Lock

from fastapi import APIRouter, Request, Response
from prometheus_client import CollectorRegistry, Counter, Histogram
from prometheus_client.core import GaugeMetricFamily, InfoMetricFamily, Metric
from prometheus_client.exposition import choose_encoder
from prometheus_client.registry import Collector
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from octo_pipeline.api.callers import Viewer
from octo_pipeline.api.operations import Operations
from octo_pipeline.model.errors import OctoError
from octo_pipeline.services.observed import Observed, observed
from octo_pipeline.settings import Settings
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.workspace import Workspace

router = APIRouter(include_in_schema=False)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# Asking Dagster takes as long as a scrape may; how long tables take changes with each run only.
_SECONDS_KEPT = 300.0
_log = logging.getLogger(__name__)


class Measures:
    """What one server measures."""

    def __init__(self, settings: Settings, operations: Operations) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "octo_http_requests", "Requests that were answered.", ("method", "route", "status"), registry=self.registry
        )
        self.seconds = Histogram(
            "octo_http_request_seconds", "How long answers took.", ("method", "route"), registry=self.registry
        )
        self.registry.register(_Installation(settings, operations))


class Measured:
    """Middleware that measures each request, and logs it.

    Args:
        prefix: of the API's routes, which name themselves without it.
    """

    def __init__(self, app: ASGIApp, measures: Measures, prefix: str) -> None:
        self._app = app
        self._measures = measures
        self._prefix = prefix

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began, status = time.perf_counter(), 500

        async def send_and_look(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_look)
        finally:
            seconds = time.perf_counter() - began
            # What a caller writes is never a label: each would be a series of its own for good.
            method = scope["method"] if scope["method"] in _METHODS else "other"
            route = self._route(scope)
            self._measures.requests.labels(method, route, str(status)).inc()
            self._measures.seconds.labels(method, route).observe(seconds)
            facts = {"method": method, "route": route, "status": status, "seconds": round(seconds, 4)}
            _log.info("%s %s %s", method, route, status, extra=facts)

    def _route(self, scope: Scope) -> str:
        path: str | None = getattr(scope.get("route"), "path", None)
        if path is None:
            return "other"
        return f"{self._prefix}{path}" if scope["path"].startswith(f"{self._prefix}/") else path


@router.get("/metrics")
def get_metrics(request: Request, _: Viewer) -> Response:
    """Everything that is measured, in the format that the caller accepts."""
    encode, content_type = choose_encoder(request.headers.get("accept", ""))
    return Response(encode(request.app.state.measures.registry), media_type=content_type)


class _Installation(Collector):
    """The state of the installation, looked at when somebody asks."""

    def __init__(self, settings: Settings, operations: Operations) -> None:
        self._settings = settings
        self._operations = operations
        self._lock = Lock()
        self._table_seconds: tuple[float, dict[str, float]] | None = None

    def describe(self) -> Iterable[Metric]:
        """Nothing: else all would be computed to register it."""
        return ()

    def collect(self) -> Iterator[Metric]:
        """The metrics; without those of the lake if it cannot be read."""
        yield InfoMetricFamily("octo_build", "The program.", value={"version": version("octo-pipeline")})
        states = dict(Count(str(operation.state) for operation in self._operations.all()))
        yield _gauge("octo_operations", "Long work of this server by state.", "state", states)
        yield _gauge("octo_table_seconds", "How long each table took last.", "table", self._seconds_by_table())
        try:
            state = observed(Workspace(self._settings))
        except OctoError as error:
            _log.warning(str(error))
            yield GaugeMetricFamily("octo_lake_readable", "Whether lake and registry can be read.", value=0)
            return
        yield GaugeMetricFamily("octo_lake_readable", "Whether lake and registry can be read.", value=1)
        yield from _of_lake(state)

    def _seconds_by_table(self) -> dict[str, float]:
        from octo_pipeline.automation.seconds import seconds_by_table

        with self._lock:
            if self._table_seconds is None or time.monotonic() - self._table_seconds[0] > _SECONDS_KEPT:
                try:
                    seconds = seconds_by_table([table.name for table in TABLES])
                except Exception as error:
                    # Dagster's storage may be away, in which case its own processes say so.
                    _log.warning("Dagster does not say how long tables took: %s", type(error).__name__)
                    seconds = {}
                self._table_seconds = time.monotonic(), seconds
            return self._table_seconds[1]


def _of_lake(state: Observed) -> Iterator[Metric]:
    yield _gauge("octo_months", "Months of the lake by state.", "state", state.months)
    yield GaugeMetricFamily("octo_stale_months", "Months that are not current.", value=state.stale_months)
    late = "Accounts that delivered the month before the last one and nothing of the last one."
    yield _gauge("octo_late_accounts", late, "vendor", state.late_accounts)
    billed = {currency: float(cost) for currency, cost in state.billed.items()}
    yield _gauge("octo_billed_amount", "The bill of the newest month.", "currency", billed)
    costs = {currency: float(cost) for currency, (_, cost) in state.unallocated.items()}
    left = "What stays where it was billed in the newest month."
    yield _gauge("octo_unallocated_amount", left, "currency", dict.fromkeys(billed, 0.0) | costs)
    items = {currency: items for currency, (items, _) in state.unallocated.items()}
    yield _gauge(
        "octo_unallocated_items", f"How many items that is: {left}", "currency", dict.fromkeys(billed, 0) | items
    )


def _gauge(name: str, text: str, label: str, values: Mapping[str, float]) -> GaugeMetricFamily:
    gauge = GaugeMetricFamily(name, text, labels=[label])
    for value, number in values.items():
        gauge.add_metric([value], number)
    return gauge
