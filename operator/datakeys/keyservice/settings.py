"""Settings, read once at start from the environment.

Zone: no secrets: no setting of this service is one. Source: docs/architecture.md, "Settings".
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from datakeys.contract.environment import Address, read_address, read_flag, read_required
from datakeys.keyservice.pki.authority import Lifetimes


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
        return cls(
            cluster_name=read_required(environment, "DATAKEYS_CLUSTER_NAME"),
            system_namespace=read_required(environment, "DATAKEYS_SYSTEM_NAMESPACE"),
            controller_service_account=environment.get("DATAKEYS_CONTROLLER_SERVICE_ACCOUNT")
            or "datakeys-controller",
            token_cache_seconds=_read_seconds(environment, "DATAKEYS_TOKEN_CACHE_SECONDS", 10),
            check_addresses=_read_caller_address(environment),
            listen=read_address(environment, "DATAKEYS_LISTEN", "0.0.0.0:8443"),
            health_listen=read_address(environment, "DATAKEYS_HEALTH_LISTEN", "0.0.0.0:9443"),
            log_level=(environment.get("DATAKEYS_LOG_LEVEL") or "INFO").upper(),
            drain_delay_seconds=_read_seconds(environment, "DATAKEYS_DRAIN_DELAY_SECONDS", 3),
            drain_grace_seconds=_read_seconds(environment, "DATAKEYS_DRAIN_GRACE_SECONDS", 15),
            rate_quota_factor=_read_number(environment, "DATAKEYS_RATE_QUOTA_FACTOR", 1, maximum=1000),
            lifetimes=_read_lifetimes(environment),
            webhook_certificate=read_flag(environment, "DATAKEYS_WEBHOOK_CERTIFICATE", default=True),
        )


def _read_seconds(environment: Mapping[str, str], name: str, default: float) -> float:
    return _read_number(environment, name, default, maximum=300)


def _read_number(environment: Mapping[str, str], name: str, default: float, *, maximum: float) -> float:
    try:
        number = float(environment.get(name) or default)
    except ValueError:
        number = math.nan
    if not 0 <= number <= maximum:
        raise ValueError(f"{name} must be a number from 0 to {maximum:g}")
    return number


def _read_caller_address(environment: Mapping[str, str]) -> bool:
    text = environment.get("DATAKEYS_CALLER_ADDRESS") or "Enforce"
    if text not in ("Enforce", "Ignore"):
        raise ValueError("DATAKEYS_CALLER_ADDRESS must be Enforce or Ignore")
    return text == "Enforce"


def _read_lifetimes(environment: Mapping[str, str]) -> Lifetimes:
    usual = Lifetimes()
    defaults = {
        "DATAKEYS_CA_SECONDS": usual.ca,
        "DATAKEYS_LEAF_SECONDS": usual.leaf,
        "DATAKEYS_CA_OVERLAP_SECONDS": usual.overlap,
    }
    try:
        ca, leaf, overlap = (float(environment.get(name) or default) for name, default in defaults.items())
        return Lifetimes(ca, leaf, overlap)
    except ValueError as error:
        raise ValueError(f"{', '.join(defaults)}: {error}") from None
