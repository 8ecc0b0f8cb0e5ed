"""What this process counted of this API, and how the runs of skills went, as JSON and for Prometheus."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

from litestar import get

from holdfast.api.http.asgi import Answer
from holdfast.api.http.call import Call
from holdfast.api.http.metrics import BUCKETS, Histogram
from holdfast.api.http.reply import Reply, json_reply
from holdfast.api.skills.bodies import trace_id
from holdfast.api.skills.runs import CAPABILITY, SKILL, skill_id_of
from holdfast.store.base import RunQuery

if TYPE_CHECKING:
    from prometheus_client.core import Metric

PREFIX: Final = "holdfast_skills_"
_PATHS: Final = "/v1/"
_TEXT: Final = b"text/plain; version=0.0.4; charset=utf-8"

Counted = dict[tuple[str, str], int]


@get("/v1/metrics", opt={"role": "operator"})
async def show_metrics(request: Call) -> Answer:
    """Counters and histograms of this process, and the runs of the tenant by skill and status."""
    request.query()
    counters = {
        f'{PREFIX}calls_total{{endpoint="{endpoint}",status="{status}"}}': count
        for (endpoint, status), count in _calls(request).items()
    }
    counters |= {
        f'{PREFIX}runs_total{{skill_id="{skill_id}",status="{status}"}}': count
        for (skill_id, status), count in (await _runs(request)).items()
    }
    histograms = {
        f'{PREFIX}call_seconds{{endpoint="{endpoint}"}}': _shown(histogram)
        for endpoint, histogram in _latencies(request).items()
    }
    seconds = (request.services.clock.now() - request.services.started_at) / 1_000_000
    return json_reply(
        {
            "uptime_seconds": round(seconds, 3),
            "counters": counters,
            "histograms": histograms,
            "trace_id": trace_id(request),
        }
    )


@get("/v1/metrics/prometheus", opt={"role": "operator"})
async def show_prometheus(request: Call) -> Answer:
    """The same in Prometheus' text format."""
    from prometheus_client import CollectorRegistry, generate_latest

    request.query()
    registry = CollectorRegistry()
    registry.register(_Collector(_calls(request), await _runs(request), _latencies(request)))
    return Reply(200, bytes(generate_latest(registry)), media_type=_TEXT)


def _calls(request: Call) -> Counted:
    """How often each route of this API was answered with which status."""
    counted: Counted = {}
    for (_, endpoint, status), count in request.services.metrics.requests.items():
        if endpoint.startswith(_PATHS):
            counted[endpoint, str(status)] = counted.get((endpoint, str(status)), 0) + count
    return counted


async def _runs(request: Call) -> Counted:
    query = RunQuery(tenant=request.caller.tenant, agent_prefixes=(SKILL, CAPABILITY))
    found = await request.runs.store.count_runs(query)
    return {(skill_id_of(agent), status.value): count for (agent, status), count in sorted(found.items())}


def _latencies(request: Call) -> dict[str, Histogram]:
    return {name: item for name, item in request.services.metrics.latency.items() if name.startswith(_PATHS)}


def _shown(histogram: Histogram) -> dict[str, Any]:
    counts = list(accumulate(histogram.counts))
    buckets = dict(zip([f"{bound:g}" for bound in BUCKETS] + ["+Inf"], counts, strict=True))
    return {"count": counts[-1], "sum": round(histogram.seconds, 6), "buckets": buckets}


class _Collector:
    def __init__(self, calls: Counted, runs: Counted, latencies: dict[str, Histogram]) -> None:
        self._calls, self._runs, self._latencies = calls, runs, latencies

    def collect(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily

        calls = CounterMetricFamily(f"{PREFIX}calls", "Calls that were answered", labels=["endpoint", "status"])
        for labels, count in self._calls.items():
            calls.add_metric(list(labels), count)
        yield calls
        runs = CounterMetricFamily(f"{PREFIX}runs", "Runs of the tenant", labels=["skill_id", "status"])
        for labels, count in self._runs.items():
            runs.add_metric(list(labels), count)
        yield runs
        seconds = HistogramMetricFamily(
            f"{PREFIX}call_seconds", "From a call to the first byte of its answer", labels=["endpoint"]
        )
        for endpoint, histogram in self._latencies.items():
            bounds = [*map(str, BUCKETS), "+Inf"]
            buckets = list(zip(bounds, accumulate(histogram.counts), strict=True))
            seconds.add_metric([endpoint], buckets, histogram.seconds)
        yield seconds


HANDLERS: Final = (show_metrics, show_prometheus)
