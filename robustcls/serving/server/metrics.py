"""What the server counts, for Prometheus."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest


class Metrics:
    """Counters of one server."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "robustcls_requests",
            "Requests by outcome",
            ["model", "api", "code"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "robustcls_request_seconds",
            "Time from arrival to answer",
            ["model", "api"],
            buckets=(0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30),
            registry=self.registry,
        )
        self.rows = Histogram(
            "robustcls_batch_rows",
            "Images computed together",
            ["model"],
            buckets=(1, 2, 4, 8, 16, 32, 64, 128),
            registry=self.registry,
        )
        self.versions = Gauge(
            "robustcls_version_available",
            "1 for versions that answer",
            ["model", "version"],
            registry=self.registry,
        )

    def text(self) -> bytes:
        """Returns everything in Prometheus' text format."""
        return generate_latest(self.registry)
