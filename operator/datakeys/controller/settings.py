"""The controller's settings, read once at start. Zone: names and paths, no secrets."""

import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from datakeys.contract.environment import Address, read_address, read_flag, read_required

_HEALTH_LISTEN: Final = Address("0.0.0.0", 9443)  # noqa: S104 - a pod is reached by any of its addresses


@dataclass(frozen=True)
class Settings:
    """Everything that can be set from outside; the variable is ``DATAKEYS_`` and the name in capitals."""

    #: Region in ARNs.
    cluster_name: str
    #: Namespace of the release: the Lease, the source of the trust bundle, the controller itself.
    system_namespace: str
    #: Base URL of the key service.
    keyservice_url: str
    #: CA certificates that the key service's certificate is checked against, PEM; read again when it changes.
    keyservice_ca_file: Path
    #: Token of the audience ``keyservice.datakeys.dev``; read again when it changes.
    token_file: Path
    #: Own ServiceAccount, the subject of the RoleBinding in every namespace with requests.
    controller_service_account: str = "datakeys-controller"
    #: Where /healthz, /readyz and /metrics are served.
    health_listen: Address = _HEALTH_LISTEN
    #: Level of this project's own log lines; frameworks stay at INFO, because below it they print bodies.
    log_level: str = "INFO"
    #: How many requests are reconciled at the same time.
    concurrency: int = 32
    #: False only with one replica, in development.
    leader_election: bool = True
    #: Who holds the Lease; must differ between replicas.
    identity: str = ""
    #: How long a Lease counts after its last renewal, in seconds.
    lease_seconds: int = 15
    #: How long a leader tries to renew before it gives up and exits, in seconds.
    renew_deadline_seconds: int = 10
    #: Pause between two attempts to take or renew the Lease, in seconds.
    lease_retry_seconds: int = 2
    #: Sustained rate of Events; what is above is dropped and counted, so that a mass apply isn't doubled.
    events_per_second: int = 10
    #: Namespaces whose pods are never sent to the webhook; the system namespace is always one.
    excluded_namespaces: frozenset[str] = frozenset()
    #: Whether labelled pods that run without sidecar are evicted, if their owner makes them again.
    evict_uninjected: bool = False
    #: Such a pod is left alone for that long after it was made, in seconds.
    eviction_minimum_age_seconds: int = 120
    #: Most evictions per minute, in the whole cluster.
    evictions_per_minute: int = 6

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Self:
        """Read the settings.

        Raises:
            ValueError: A variable is missing or malformed; the text names it.
        """
        system_namespace = read_required(environ, "DATAKEYS_SYSTEM_NAMESPACE")
        return cls(
            cluster_name=read_required(environ, "DATAKEYS_CLUSTER_NAME"),
            system_namespace=system_namespace,
            keyservice_url=environ.get("DATAKEYS_KEYSERVICE_URL")
            or f"https://datakeys-keyservice.{system_namespace}.svc:443",
            keyservice_ca_file=Path(
                environ.get("DATAKEYS_KEYSERVICE_CA_FILE", "/var/run/datakeys/trust/ca.crt")
            ),
            token_file=Path(environ.get("DATAKEYS_TOKEN_FILE", "/var/run/datakeys/token/token")),
            controller_service_account=environ.get(
                "DATAKEYS_CONTROLLER_SERVICE_ACCOUNT", cls.controller_service_account
            ),
            health_listen=read_address(environ, "DATAKEYS_HEALTH_LISTEN", "0.0.0.0:9443"),
            log_level=environ.get("DATAKEYS_LOG_LEVEL", cls.log_level).upper(),
            concurrency=_positive(environ, "DATAKEYS_CONCURRENCY", cls.concurrency),
            leader_election=read_flag(environ, "DATAKEYS_LEADER_ELECTION", default=cls.leader_election),
            identity=environ.get("DATAKEYS_IDENTITY") or socket.gethostname(),
            lease_seconds=_positive(environ, "DATAKEYS_LEASE_SECONDS", cls.lease_seconds),
            renew_deadline_seconds=_positive(
                environ, "DATAKEYS_RENEW_DEADLINE_SECONDS", cls.renew_deadline_seconds
            ),
            lease_retry_seconds=_positive(environ, "DATAKEYS_LEASE_RETRY_SECONDS", cls.lease_retry_seconds),
            events_per_second=_positive(environ, "DATAKEYS_EVENTS_PER_SECOND", cls.events_per_second),
            excluded_namespaces=_names(environ, "DATAKEYS_EXCLUDED_NAMESPACES") | {system_namespace},
            evict_uninjected=read_flag(environ, "DATAKEYS_EVICT_UNINJECTED", default=cls.evict_uninjected),
            eviction_minimum_age_seconds=_positive(
                environ, "DATAKEYS_EVICTION_MINIMUM_AGE_SECONDS", cls.eviction_minimum_age_seconds
            ),
            evictions_per_minute=_positive(
                environ, "DATAKEYS_EVICTIONS_PER_MINUTE", cls.evictions_per_minute
            ),
        )


def _positive(environ: Mapping[str, str], name: str, default: int) -> int:
    text = environ.get(name)
    if text is None:
        return default
    if not text.isdecimal() or int(text) < 1:
        raise ValueError(f"environment variable {name} must be a positive integer")
    return int(text)


def _names(environ: Mapping[str, str], name: str) -> frozenset[str]:
    return frozenset(part.strip() for part in environ.get(name, "").split(",") if part.strip())
