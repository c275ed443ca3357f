"""What a registry server counts, in Prometheus' text format."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

__all__ = ["Measures"]


class Measures:
    """The counters of one server; safe for many threads."""

    def __init__(self) -> None:
        self._registry = CollectorRegistry()
        prefix = "pycontainer_registry"
        self._requests = Counter(
            f"{prefix}_requests",
            "Requests that were answered.",
            ("method", "status"),
            registry=self._registry,
        )
        self._seconds = Histogram(
            f"{prefix}_request_seconds",
            "Time from a request's head to the end of its answer.",
            ("method",),
            registry=self._registry,
        )
        self._bytes = Counter(
            f"{prefix}_bytes",
            "Bytes of blobs and manifests, received and sent.",
            ("direction",),
            registry=self._registry,
        )
        self.uploads = Gauge(
            f"{prefix}_uploads", "Request bodies that are coming in.", registry=self._registry
        )

    def answered(self, method: str, status: int, seconds: float) -> None:
        """Count an answer."""
        self._requests.labels(method, str(status)).inc()
        self._seconds.labels(method).observe(seconds)

    def received(self, size: int) -> None:
        """Count bytes that came."""
        self._bytes.labels("received").inc(size)

    def sent(self, size: int) -> None:
        """Count bytes that went."""
        self._bytes.labels("sent").inc(size)

    def text(self) -> bytes:
        """All of them, as ``/metrics`` shows them."""
        return generate_latest(self._registry)
