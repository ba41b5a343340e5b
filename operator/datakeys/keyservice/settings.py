"""Settings, read once at start from the environment.

Zone: no secrets: no setting of this service is one. Source: docs/architecture.md, "Settings".
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

from datakeys.keyservice.pki.authority import Lifetimes

PREFIX: Final = "DATAKEYS_"


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``host:port``; an IPv6 host may stand in brackets.

        Raises:
            ValueError: It isn't one.
        """
        host, _, port = text.rpartition(":")
        if not host or not port.isdigit():
            raise ValueError(f"{text!r} isn't host:port")
        return cls(host.strip("[]"), int(port))


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the key service."""

    #: Region in ARNs.
    cluster_name: str
    #: Namespace of the service and of its records.
    system_namespace: str
    #: The ServiceAccount, in the system namespace, that may act for other namespaces.
    controller_service_account: str
    #: How long a TokenReview counts, in seconds: the longest time a deleted pod's token still works.
    token_cache_seconds: float
    #: Whether a pod's token is taken from that pod's addresses only.
    check_addresses: bool
    listen: Address
    health_listen: Address
    log_level: str
    #: Seconds between failing readiness and closing the port, so that the Service's endpoints follow.
    drain_delay_seconds: float
    #: Seconds for requests in flight at the end.
    drain_grace_seconds: float
    #: Times the usual rate quotas of an account; 0: no quotas.
    rate_quota_factor: float
    #: Of the CAs and the serving certificates.
    lifetimes: Lifetimes
    #: Whether the webhook's certificate is made here; False: by cert-manager.
    webhook_certificate: bool

    @classmethod
    def from_environment(cls, environment: Mapping[str, str]) -> Self:
        """Read the settings.

        Raises:
            ValueError: One is missing or malformed; the text names it.
        """

        def read(name: str, default: str | None = None) -> str:
            value = environment.get(PREFIX + name, "") or default
            if value is None:
                raise ValueError(f"{PREFIX}{name} isn't set")
            return value

        def seconds(name: str, default: str) -> float:
            value = float(read(name, default))
            if not 0 <= value <= 300:  # noqa: PLR2004
                raise ValueError(f"{PREFIX}{name} must be 0..300 seconds")
            return value

        factor = float(read("RATE_QUOTA_FACTOR", "1"))
        if not 0 <= factor <= 1000:  # noqa: PLR2004
            raise ValueError(f"{PREFIX}RATE_QUOTA_FACTOR must be 0..1000")
        return cls(
            cluster_name=read("CLUSTER_NAME"),
            system_namespace=read("SYSTEM_NAMESPACE"),
            controller_service_account=read("CONTROLLER_SERVICE_ACCOUNT", "datakeys-controller"),
            token_cache_seconds=seconds("TOKEN_CACHE_SECONDS", "10"),
            check_addresses=_read_caller_address(environment),
            listen=Address.parse(read("LISTEN", "0.0.0.0:8443")),
            health_listen=Address.parse(read("HEALTH_LISTEN", "0.0.0.0:9443")),
            log_level=read("LOG_LEVEL", "INFO").upper(),
            drain_delay_seconds=seconds("DRAIN_DELAY_SECONDS", "3"),
            drain_grace_seconds=seconds("DRAIN_GRACE_SECONDS", "15"),
            rate_quota_factor=factor,
            lifetimes=_read_lifetimes(environment),
            webhook_certificate=_read_flag(environment, "WEBHOOK_CERTIFICATE", default=True),
        )


def _read_caller_address(environment: Mapping[str, str]) -> bool:
    text = environment.get(f"{PREFIX}CALLER_ADDRESS") or "Enforce"
    if text not in ("Enforce", "Ignore"):
        raise ValueError(f"{PREFIX}CALLER_ADDRESS must be Enforce or Ignore")
    return text == "Enforce"


def _read_lifetimes(environment: Mapping[str, str]) -> Lifetimes:
    usual = Lifetimes()
    defaults = {"CA_SECONDS": usual.ca, "LEAF_SECONDS": usual.leaf, "CA_OVERLAP_SECONDS": usual.overlap}
    try:
        ca, leaf, overlap = (
            float(environment.get(PREFIX + name) or default) for name, default in defaults.items()
        )
        return Lifetimes(ca, leaf, overlap)
    except ValueError as error:
        raise ValueError(f"{', '.join(PREFIX + name for name in defaults)}: {error}") from None


def _read_flag(environment: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = environment.get(PREFIX + name) or str(default)
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{PREFIX}{name} must be true or false")
    return text.lower() == "true"
