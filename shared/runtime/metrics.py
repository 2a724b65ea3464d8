"""What both sides need to be read by Prometheus. Every process counts for itself, in memory: nothing is shared.

A replica is scraped by its own address, so there is nothing to merge; its counters begin again with it, as
Prometheus expects. No ids in labels.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from itertools import accumulate

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.metrics_core import HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

#: Seconds: from a lone picture's half a millisecond in the model to a backlog of minutes.
SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)


class Histogram(Collector):
    """A histogram for who observes whole batches: a value costs a third of a microsecond, many equal ones cost one.

    One thread observes; any may read, and sees the last batch or does not.
    """

    def __init__(
        self, name: str, doc: str, bounds: Sequence[float], registry: CollectorRegistry, label: str = ""
    ) -> None:
        self._name, self._doc, self._bounds, self._label = name, doc, tuple(bounds), label
        #: Label -> how many in each bucket, the last being beyond the bounds; and their sum.
        self._counts: dict[str, list[int]] = {}
        self._sums: dict[str, float] = {}
        registry.register(self)

    def observe(self, values: Sequence[float], label: str = "", times: int = 1) -> None:
        """Notes each value, `times` times."""
        counts = self._counts.setdefault(label, [0] * (len(self._bounds) + 1))
        for value in values:
            counts[bisect_left(self._bounds, value)] += times
        self._sums[label] = self._sums.get(label, 0.0) + sum(values) * times

    def collect(self) -> Iterator[Metric]:
        """The family, as prometheus_client asks for it."""
        family = HistogramMetricFamily(self._name, self._doc, labels=[self._label] if self._label else [])
        names = [*map(floatToGoString, self._bounds), "+Inf"]
        for label, counts in list(self._counts.items()):
            buckets = list(zip(names, accumulate(counts), strict=True))
            family.add_metric([label] if self._label else [], buckets, self._sums[label])
        yield family
