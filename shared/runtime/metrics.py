"""Histograms for Prometheus, for web processes and workers. Each process counts in its own memory.

Replicas are scraped one by one, so there is nothing to merge; counters restart with the process, as Prometheus
expects. Labels contain no ids.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric, disable_created_metrics
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

# Otherwise each counter has a second series, `_created`, which nothing uses.
disable_created_metrics()  # type: ignore[no-untyped-call]

#: Bucket bounds in seconds: from half a millisecond, one picture in the model, to minutes in a backlog.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Histogram(Collector):
    """A histogram that observes whole batches: a third of a microsecond a value, once for many equal values.

    Only one thread may observe; others may collect at any time.
    """

    def __init__(
        self, name: str, doc: str, bounds: Sequence[float], registry: CollectorRegistry, label: str = ""
    ) -> None:
        self._name, self._doc, self._bounds, self._label = name, doc, tuple(bounds), label
        #: By label: the counts of the buckets, the last for values beyond the bounds; and the sums of the values.
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def observe(self, values: Sequence[float], label: str = "", times: int = 1) -> None:
        """Count each value `times` times."""
        counts = self._counts.setdefault(label, [0] * (len(self._bounds) + 1))
        for value in values:
            counts[bisect_left(self._bounds, value)] += times
        self._sums[label] = self._sums.get(label, 0.0) + sum(values) * times

    def collect(self) -> Iterator[Metric]:
        """Yield the metric family; called by prometheus_client."""
        family = HistogramMetricFamily(self._name, self._doc, labels=[self._label] if self._label else [])
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for label, counts in list(self._counts.items()):
            buckets = list(zip(names, accumulate(counts), strict=True))
            family.add_metric([label] if self._label else [], buckets, self._sums[label])
        yield family
