"""
What the server counts about its calls, and how all that is counted is told to Prometheus.

Counting is ours, so that a call costs a few additions and the library is loaded by the first scrape alone; the text is
prometheus-client's. Every figure is that of one process: behind `--workers N`, each scrape reaches one of them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import TYPE_CHECKING, Any, Final

import msgspec

if TYPE_CHECKING:
    from prometheus_client.core import Metric

    from holdfast.runs import Runs

PREFIX: Final = "holdfast_"
# Seconds. An answer within a commit takes milliseconds; `/invoke` waits for a whole run.
BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)


class Histogram:
    """How often something took how long."""

    __slots__ = ("counts", "seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS) + 1)
        self.seconds = 0.0

    def observe(self, seconds: float) -> None:
        self.counts[bisect_left(BUCKETS, seconds)] += 1
        self.seconds += seconds


class Metrics:
    """Made once per server. `endpoint` is a route such as `/runs/{run_id}`, so that labels stay few."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, str, int]] = Counter()  # by agent, endpoint and status
        self.latency: dict[str, Histogram] = {}  # by endpoint; up to the first byte of the answer
        self.active_requests = 0
        self.subscribers = 0  # open event streams and sockets

    def observe(self, agent: str, endpoint: str, status: int, seconds: float) -> None:
        """Count a call that was answered."""
        self.requests[agent, endpoint, status] += 1
        histogram = self.latency.get(endpoint)
        if histogram is None:
            histogram = self.latency[endpoint] = Histogram()
        histogram.observe(seconds)


class Shown(msgspec.Struct, frozen=True):
    """Which of the metrics are shown that a Dockfile can switch off."""

    latency: bool = True
    tokens: bool = True
    cost: bool = True


def exposition(metrics: Metrics, runs: Runs | None, shown: Shown) -> bytes:
    """All figures in Prometheus' text format, version 0.0.4. `runs` is None while the server starts."""
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    registry.register(_Collector(metrics, runs, shown))
    return bytes(generate_latest(registry))


class _Collector:
    def __init__(self, metrics: Metrics, runs: Runs | None, shown: Shown) -> None:
        self._metrics, self._runs, self._shown = metrics, runs, shown

    def collect(self) -> Iterator[Metric]:
        yield from self._calls()
        if self._runs is not None:
            yield from self._work(self._runs)

    def _calls(self) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily

        metrics = self._metrics
        requests = CounterMetricFamily(
            f"{PREFIX}requests", "Calls that were answered", labels=["agent", "endpoint", "status"]
        )
        for (agent, endpoint, status), count in metrics.requests.items():
            requests.add_metric([agent, endpoint, str(status)], count)
        yield requests
        if self._shown.latency:
            latency = HistogramMetricFamily(
                f"{PREFIX}request_latency_seconds", "From a call to the first byte of its answer", labels=["endpoint"]
            )
            for endpoint, histogram in metrics.latency.items():
                latency.add_metric([endpoint], _buckets(histogram), histogram.seconds)
            yield latency
        yield GaugeMetricFamily(
            f"{PREFIX}active_requests", "Calls under way, open streams among them", value=metrics.active_requests
        )
        yield GaugeMetricFamily(f"{PREFIX}subscribers", "Open event streams and sockets", value=metrics.subscribers)

    def _work(self, runs: Runs) -> Iterator[Metric]:
        from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

        yield GaugeMetricFamily(f"{PREFIX}runs", "Runs that this process executes", value=runs.worker.executing)
        yield CounterMetricFamily(
            f"{PREFIX}events", "Events that this process committed", value=runs.journal.events_committed
        )
        tally = runs.worker.tally
        if self._shown.tokens:
            tokens = CounterMetricFamily(
                f"{PREFIX}tokens", "Tokens that models took and gave", labels=["agent", "kind"]
            )
            for labels, count in tally.tokens.items():
                tokens.add_metric(list(labels), count)
            yield tokens
        if self._shown.cost:
            cost = CounterMetricFamily(
                f"{PREFIX}cost_usd", "What models cost, as far as their prices are known", labels=["agent"]
            )
            for agent, usd in tally.cost_usd.items():
                cost.add_metric([agent], usd)
            yield cost


def _buckets(histogram: Histogram) -> list[Any]:
    """Cumulative, as the format wants them."""
    return list(zip([*map(str, BUCKETS), "+Inf"], accumulate(histogram.counts), strict=True))
