"""Names and paths in an injected pod, as docs/architecture.md fixes them. Zone: no secrets."""

from typing import Final

SIDECAR_NAME: Final = "datakeys-sidecar"

VOLUME_KEYS: Final = "datakeys-keys"
VOLUME_ENCRYPTED: Final = "datakeys-encrypted"
VOLUME_TOKEN: Final = "datakeys-token"  # noqa: S105 - the name of a volume
VOLUME_TRUST: Final = "datakeys-trust"
VOLUMES: Final = frozenset({VOLUME_KEYS, VOLUME_ENCRYPTED, VOLUME_TOKEN, VOLUME_TRUST})

ROOT: Final = "/var/run/datakeys"
PATH_KEYS: Final = f"{ROOT}/keys"
PATH_ENCRYPTED: Final = f"{ROOT}/encrypted"
PATH_TOKEN: Final = f"{ROOT}/token"
PATH_TRUST: Final = f"{ROOT}/trust"
#: Where the API server mounts a token for itself into every container that has nothing there.
PATH_API_TOKEN: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path
