"""Names and paths in an injected pod, as docs/architecture.md fixes them. Zone: no secrets."""

from collections.abc import Mapping
from typing import Any, Final

#: The init container that goes before an ordinary sidecar.
GATE_NAME: Final = "datakeys-sidecar-start"

VOLUME_KEYS: Final = "datakeys-keys"
VOLUME_ENCRYPTED: Final = "datakeys-encrypted"
VOLUME_TOKEN: Final = "datakeys-token"  # noqa: S105 - the name of a volume
VOLUME_TRUST: Final = "datakeys-trust"
VOLUMES: Final = (VOLUME_KEYS, VOLUME_ENCRYPTED, VOLUME_TOKEN, VOLUME_TRUST)

ROOT: Final = "/var/run/datakeys"
PATH_KEYS: Final = f"{ROOT}/keys"
PATH_ENCRYPTED: Final = f"{ROOT}/encrypted"
PATH_TOKEN: Final = f"{ROOT}/token"
PATH_TRUST: Final = f"{ROOT}/trust"
#: Where the API server mounts a token for itself into every container that has nothing there.
PATH_API_TOKEN: Final = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105 - a path


def choose_volume_names(spec: Mapping[str, Any]) -> dict[str, str]:
    """Return a name for each of :data:`VOLUMES` that nothing in the pod's spec uses: its own, or ``…-2``.

    A container that mounts a volume of a name counts too: it must not get ours because nobody else has it.
    """
    taken = {volume["name"] for volume in spec.get("volumes") or ()}
    for kind in ("containers", "initContainers"):
        for container in spec.get(kind) or ():
            taken.update(mount["name"] for mount in container.get("volumeMounts") or ())
    return {base: _find_free(base, taken) for base in VOLUMES}


def _find_free(base: str, taken: set[str]) -> str:
    name, number = base, 2
    while name in taken:
        name, number = f"{base}-{number}", number + 1
    return name
