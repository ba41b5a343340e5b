"""The webhook's metrics. Zone: no secrets, no names of pods: labels have few values."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram


class Metrics:
    """Everything ``/metrics`` shows."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        #: result: injected (pods), stamped (workloads), unchanged, refused, malformed, error.
        self.admissions = Counter(
            "datakeys_webhook_admissions_total",
            "Admission reviews by result",
            ["result"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "datakeys_webhook_admission_seconds",
            "Time to answer an admission review",
            buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10),
            registry=self.registry,
        )
        self.ended_connections = Counter(
            "datakeys_webhook_ended_connections_total",
            "Connections that were ended or refused because there were too many, or too many bytes",
            registry=self.registry,
        )
        self.ca_expiry = Gauge(
            "datakeys_webhook_ca_expiry_timestamp_seconds",
            "When the CA ends that has signed the serving certificate, in seconds since the epoch; 0: none",
            registry=self.registry,
        )
        self.certificate_expiry = Gauge(
            "datakeys_webhook_certificate_expiry_timestamp_seconds",
            "When the serving certificate ends, in seconds since the epoch; 0: none is loaded",
            registry=self.registry,
        )
