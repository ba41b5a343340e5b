"""The injected volumes, and who mounts them where; pure. Zone: names of Secrets, never their content."""

from collections.abc import Mapping
from typing import Any, Final

from datakeys.contract.encrypted_data_key import (
    FIELD_CIPHERTEXT_BLOB,
    FIELD_ENCRYPTION_CONTEXT,
    FIELD_KEY_ARN,
    FIELD_KEY_MATERIAL_ID,
)
from datakeys.contract.identity import AUDIENCE, TRUST_BUNDLE_CONFIG_MAP, TRUST_BUNDLE_KEY
from datakeys.webhook.patches.layout import (
    PATH_API_TOKEN,
    PATH_ENCRYPTED,
    PATH_KEYS,
    PATH_TOKEN,
    PATH_TRUST,
    VOLUME_ENCRYPTED,
    VOLUME_KEYS,
    VOLUME_TOKEN,
    VOLUME_TRUST,
)

#: A data key has at most 1 KiB and takes a page of 4 KiB, twice while it is replaced.
KEYS_SIZE_LIMIT: Final = "1Mi"
TOKEN_SECONDS: Final = 600
#: Read-only for every user: the kubelet narrows the token to the pod's user where it can.
_MODE: Final = 0o444
_FIELDS: Final = (FIELD_CIPHERTEXT_BLOB, FIELD_ENCRYPTION_CONTEXT, FIELD_KEY_ARN, FIELD_KEY_MATERIAL_ID)

JsonObject = dict[str, Any]


def build_volumes(secret_names: Mapping[str, str], names: Mapping[str, str]) -> list[JsonObject]:
    """Return the volumes.

    All Secrets are in one projected volume, a folder per delivered name. None is optional: a pod whose Secret
    doesn't exist yet waits for it. Without any there are neither Secrets nor keys.

    Args:
        secret_names: The Secret of each delivered name.
        names: The name in this pod of each of the layout's volumes.
    """
    secrets = [
        {"secret": {"name": secret, "items": [{"key": key, "path": f"{name}/{key}"} for key in _FIELDS]}}
        for name, secret in secret_names.items()
    ]
    token = {"audience": AUDIENCE, "expirationSeconds": TOKEN_SECONDS, "path": "token"}
    bundle = [{"key": TRUST_BUNDLE_KEY, "path": TRUST_BUNDLE_KEY}]
    key_volumes = [
        {"name": names[VOLUME_ENCRYPTED], "projected": {"defaultMode": _MODE, "sources": secrets}},
        {"name": names[VOLUME_KEYS], "emptyDir": {"medium": "Memory", "sizeLimit": KEYS_SIZE_LIMIT}},
    ]
    return [
        *(key_volumes if secrets else ()),
        {
            "name": names[VOLUME_TOKEN],
            "projected": {"defaultMode": _MODE, "sources": [{"serviceAccountToken": token}]},
        },
        {
            "name": names[VOLUME_TRUST],
            "configMap": {"name": TRUST_BUNDLE_CONFIG_MAP, "defaultMode": _MODE, "items": bundle},
        },
    ]


def build_sidecar_mounts(names: Mapping[str, str], *, with_keys: bool) -> list[JsonObject]:
    """Return what the sidecar mounts."""
    keys: tuple[JsonObject, ...] = (
        {"name": names[VOLUME_ENCRYPTED], "mountPath": PATH_ENCRYPTED, "readOnly": True},
        {"name": names[VOLUME_KEYS], "mountPath": PATH_KEYS},
    )
    return [
        *(keys if with_keys else ()),
        {"name": names[VOLUME_TOKEN], "mountPath": PATH_TOKEN, "readOnly": True},
        {"name": names[VOLUME_TRUST], "mountPath": PATH_TRUST, "readOnly": True},
        # Keeps the pod's token for the API server out of the sidecar, which has no use for it.
        {"name": names[VOLUME_TRUST], "mountPath": PATH_API_TOKEN, "readOnly": True},
    ]


def build_keys_mount(names: Mapping[str, str]) -> JsonObject:
    """Return the mount that the app's containers get."""
    return {"name": names[VOLUME_KEYS], "mountPath": PATH_KEYS, "readOnly": True}
