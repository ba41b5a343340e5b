"""The webhook's settings, read once from the environment. Zone: no secrets; of the TLS key only the path."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from datakeys.webhook.patches import SidecarKind, SidecarSettings


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``host:port``; an IPv6 address stands in brackets.

        Raises:
            ValueError: The text has another form.
        """
        host, _, port = text.rpartition(":")
        if not host or not port.isdecimal():
            raise ValueError(f"{text!r} isn't host:port")
        return cls(host.strip("[]"), int(port))


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
        image=_require(environment, "DATAKEYS_SIDECAR_IMAGE"),
        image_pull_policy=environment.get("DATAKEYS_SIDECAR_IMAGE_PULL_POLICY") or "IfNotPresent",
        keyservice_url=_require(environment, "DATAKEYS_KEYSERVICE_URL"),
        region=_require(environment, "DATAKEYS_CLUSTER_NAME"),
        kind=_read_kind(environment),
    )
    if sidecar.image_pull_policy not in ("Always", "IfNotPresent", "Never"):
        raise ValueError("DATAKEYS_SIDECAR_IMAGE_PULL_POLICY must be Always, IfNotPresent or Never")
    return Settings(
        listen=_read_address(environment, "DATAKEYS_LISTEN", "0.0.0.0:8443"),
        health_listen=_read_address(environment, "DATAKEYS_HEALTH_LISTEN", "0.0.0.0:9443"),
        tls_directory=Path(environment.get("DATAKEYS_TLS_DIRECTORY") or "/var/run/datakeys/tls"),
        manages_ca_bundle=_read_flag(environment, "DATAKEYS_MANAGE_CA_BUNDLE", default=True),
        sidecar=sidecar,
        log_level=(environment.get("DATAKEYS_LOG_LEVEL") or "INFO").upper(),
    )


def _require(environment: Mapping[str, str], name: str) -> str:
    value = environment.get(name, "")
    if not value:
        raise ValueError(f"{name} must be set")
    return value


def _read_kind(environment: Mapping[str, str]) -> SidecarKind:
    try:
        return SidecarKind(environment.get("DATAKEYS_SIDECAR_KIND") or SidecarKind.NATIVE)
    except ValueError:
        raise ValueError(f"DATAKEYS_SIDECAR_KIND must be {' or '.join(SidecarKind)}") from None


def _read_flag(environment: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = environment.get(name) or str(default)
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{name} must be true or false")
    return text.lower() == "true"


def _read_address(environment: Mapping[str, str], name: str, default: str) -> Address:
    try:
        return Address.parse(environment.get(name) or default)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
