"""The metrics of /metrics: counts and times, in the text format of Prometheus."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)
BATCHES = (1, 2, 4, 8, 16, 32)


class ServiceMetrics:
    """The counters of one program.

    Attributes:
        requests: Requests by route and status.
        waiting: Requests that are worked on or wait.
        batch: Photos encoded and searched with together.
        connections: Connections that are open.
        given_up: Connections closed because of their clients, by what they waited for; ``room``:
            for a new connection.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "requests", "HTTP requests", ["route", "status"], registry=self.registry
        )
        self.waiting = Gauge("requests_waiting", "requests inside", registry=self.registry)
        self.connections = Gauge("connections", "connections open", registry=self.registry)
        self.given_up = Counter(
            "connections_given_up",
            "connections closed while they waited for their clients",
            ["wait"],
            registry=self.registry,
        )
        self.batch = Histogram(
            "batch_size",
            "photos encoded and searched with together",
            buckets=BATCHES,
            registry=self.registry,
        )
        self.images = Gauge("images", "images of the database", registry=self.registry)
        self._steps = Histogram(
            "step_seconds",
            "seconds of decoding a photo, with waiting, and of encoding and searching a batch",
            ["step"],
            buckets=SECONDS,
            registry=self.registry,
        )

    @contextmanager
    def timed(self, step: str) -> Iterator[None]:
        """Count the seconds of a step."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self._steps.labels(step).observe(time.perf_counter() - started)

    def text(self) -> bytes:
        """Return all values."""
        return generate_latest(self.registry)
