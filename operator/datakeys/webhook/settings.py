"""The webhook's settings, read once from the environment. Zone: no secrets; of the TLS key only the path."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from datakeys.contract.environment import Address, read_address, read_flag, read_required
from datakeys.webhook.patches import SidecarKind, SidecarSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings of the process."""

    #: DATAKEYS_LISTEN: admission, TLS.
    listen: Address
    #: DATAKEYS_HEALTH_LISTEN: health and metrics, plain HTTP.
    health_listen: Address
    #: DATAKEYS_TLS_DIRECTORY: the mounted Secret ``datakeys-webhook-tls``.
    tls_directory: Path
    #: DATAKEYS_MANAGE_CA_BUNDLE: false if somebody else sets caBundle, such as cert-manager.
    manages_ca_bundle: bool
    #: DATAKEYS_SIDECAR_IMAGE, DATAKEYS_SIDECAR_IMAGE_PULL_POLICY, DATAKEYS_SIDECAR_KIND,
    #: DATAKEYS_KEYSERVICE_URL and DATAKEYS_CLUSTER_NAME: what is injected.
    sidecar: SidecarSettings
    #: DATAKEYS_LOG_LEVEL: no level prints a body.
    log_level: str


def read_settings(environment: Mapping[str, str]) -> Settings:
    """Read the settings.

    Raises:
        ValueError: A variable is missing or malformed; the text names it.
    """
    sidecar = SidecarSettings(
        image=read_required(environment, "DATAKEYS_SIDECAR_IMAGE"),
        image_pull_policy=environment.get("DATAKEYS_SIDECAR_IMAGE_PULL_POLICY") or "IfNotPresent",
        keyservice_url=read_required(environment, "DATAKEYS_KEYSERVICE_URL"),
        region=read_required(environment, "DATAKEYS_CLUSTER_NAME"),
        kind=_read_kind(environment),
    )
    if sidecar.image_pull_policy not in ("Always", "IfNotPresent", "Never"):
        raise ValueError("DATAKEYS_SIDECAR_IMAGE_PULL_POLICY must be Always, IfNotPresent or Never")
    return Settings(
        listen=read_address(environment, "DATAKEYS_LISTEN", "0.0.0.0:8443"),
        health_listen=read_address(environment, "DATAKEYS_HEALTH_LISTEN", "0.0.0.0:9443"),
        tls_directory=Path(environment.get("DATAKEYS_TLS_DIRECTORY") or "/var/run/datakeys/tls"),
        manages_ca_bundle=read_flag(environment, "DATAKEYS_MANAGE_CA_BUNDLE", default=True),
        sidecar=sidecar,
        log_level=(environment.get("DATAKEYS_LOG_LEVEL") or "INFO").upper(),
    )


def _read_kind(environment: Mapping[str, str]) -> SidecarKind:
    try:
        return SidecarKind(environment.get("DATAKEYS_SIDECAR_KIND") or SidecarKind.NATIVE)
    except ValueError:
        raise ValueError(f"DATAKEYS_SIDECAR_KIND must be {' or '.join(SidecarKind)}") from None
