"""Counts and latencies under TensorFlow Serving's metric names, in Prometheus' text format.

Batch sizes are not among them: the runtime counts what a `BatchFunction` merges, but tells Python nothing of it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeAlias

import grpc

from gradcam_export.server.status import StatusError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator

REQUEST_COUNT = ":tensorflow:serving:request_count"
REQUEST_LATENCY = ":tensorflow:serving:request_latency"
RUNTIME_LATENCY = ":tensorflow:serving:runtime_latency"

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

BUCKETS_MICROSECONDS = tuple(10 * 1.8**power for power in range(33))
"""Upper bounds, the stock server's: 10 µs to 25 minutes."""

UNKNOWN_MODEL = "unknown"
"""All the names that requests make up: a series for each would let a caller fill the memory."""

Labels: TypeAlias = tuple[tuple[str, str], ...]


@dataclass
class _Histogram:
    counts: list[int] = field(default_factory=lambda: [0] * (len(BUCKETS_MICROSECONDS) + 1))
    total: float = 0.0

    def add(self, microseconds: float) -> None:
        self.counts[bisect_left(BUCKETS_MICROSECONDS, microseconds)] += 1
        self.total += microseconds


class Metrics:
    """What happened to the requests of one server; may be used from any thread."""

    def __init__(self, models: Collection[str]) -> None:
        self._models = models
        self._lock = threading.Lock()
        self._requests: Counter[Labels] = Counter()
        self._request_latency: defaultdict[Labels, _Histogram] = defaultdict(_Histogram)
        self._runtime_latency: defaultdict[Labels, _Histogram] = defaultdict(_Histogram)

    @contextlib.contextmanager
    def request(self, model: str, api: str, entrypoint: str) -> Iterator[None]:
        """Count the request that is answered inside by its status, and the time of its success."""
        start = time.perf_counter()
        name = ("model_name", model if model in self._models else UNKNOWN_MODEL)
        code = grpc.StatusCode.UNKNOWN
        try:
            yield
            code = grpc.StatusCode.OK
        except StatusError as error:
            code = error.code
            raise
        finally:
            microseconds = (time.perf_counter() - start) * 1e6
            with self._lock:
                self._requests[name, ("status", code.name)] += 1
                if code is grpc.StatusCode.OK:
                    self._request_latency[name, ("API", api), ("entrypoint", entrypoint)].add(microseconds)

    @contextlib.contextmanager
    def run(self, model: str) -> Iterator[None]:
        """Time what runs inside as a run of the graph; a run that fails is not counted."""
        start = time.perf_counter()
        yield
        microseconds = (time.perf_counter() - start) * 1e6
        with self._lock:
            self._runtime_latency[("model_name", model), ("API", "Predict"), ("runtime", "TF1")].add(microseconds)

    def page(self) -> str:
        """All of it, as Prometheus reads it."""
        with self._lock:
            lines = [f"# TYPE {REQUEST_COUNT} counter"]
            lines += [f"{REQUEST_COUNT}{_braced(labels)} {count}" for labels, count in self._requests.items()]
            lines += _histogram_lines(REQUEST_LATENCY, self._request_latency)
            lines += _histogram_lines(RUNTIME_LATENCY, self._runtime_latency)
        return "\n".join(lines) + "\n"


def _histogram_lines(name: str, histograms: dict[Labels, _Histogram]) -> Iterator[str]:
    yield f"# TYPE {name} histogram"
    for labels, histogram in histograms.items():
        below = 0
        for count, limit in zip(histogram.counts, (*BUCKETS_MICROSECONDS, float("inf")), strict=True):
            below += count
            bound = f"{limit:g}".replace("inf", "+Inf")
            yield f"{name}_bucket{_braced((*labels, ('le', bound)))} {below}"
        yield f"{name}_sum{_braced(labels)} {histogram.total}"
        yield f"{name}_count{_braced(labels)} {below}"


def _braced(labels: Labels) -> str:
    return "{" + ",".join(f'{name}="{_escaped(value)}"' for name, value in labels) + "}"


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
