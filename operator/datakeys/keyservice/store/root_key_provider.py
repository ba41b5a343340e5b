"""Where the root key comes from. The embedded provider keeps it in an immutable Secret.

Zone: the root key's bytes pass through `EmbeddedRootKeyProvider` and nowhere else in this package.
Needs: get and create on the Secret ``datakeys-root-key``; list on Secrets. See docs/adr.
"""

import base64
import binascii
from typing import Any, Final, Protocol

from datakeys.contract.errors import DependencyTimeoutError
from datakeys.contract.identity import LABEL_MANAGED_BY
from datakeys.keyservice.material.derive import RandomSource
from datakeys.keyservice.material.root_key import ROOT_KEY_BYTES, RootKey
from datakeys.keyservice.store.codec import LABEL_RECORD, MANAGED_BY
from datakeys.keyservice.store.objects_api import ObjectsApi

ROOT_KEY_SECRET: Final = "datakeys-root-key"  # noqa: S105 - a name
ROOT_KEY_TYPE: Final = "datakeys.dev/root-key"
FIELD_KEY: Final = "key"
#: The cluster name the keys are made for. As the Region of ARNs it is authenticated with every ciphertext.
FIELD_CLUSTER_NAME: Final = "clusterName"


class RootKeyError(RuntimeError):
    """The root key is missing or unfit. The process must not start, and must not make a new one."""


class RootKeyProvider(Protocol):
    """Gives the root key at start."""

    def load(self) -> RootKey:
        """Return the root key. May block.

        Raises:
            RootKeyError: It is missing or unfit.
            DependencyTimeoutError: Where it is kept can't be reached.
        """


class EmbeddedRootKeyProvider:
    """Creates the root key once, by an atomic create, and reads it ever after."""

    def __init__(self, secrets: ObjectsApi, random: RandomSource, cluster_name: str) -> None:
        self._secrets = secrets
        self._random = random
        self._cluster_name = cluster_name

    def load(self) -> RootKey:
        """Return the root key; create it only in a cluster that has no record yet.

        Raises:
            RootKeyError: Records exist, but no root key; the Secret is malformed, or of another cluster name.
            DependencyTimeoutError: The API can't be reached.
        """
        existing = self._secrets.get(ROOT_KEY_SECRET)
        if existing is not None:
            return self._parse(existing)
        records, _ = self._secrets.list_all(LABEL_RECORD)
        if records:
            raise RootKeyError(
                f"{len(records)} sealed records exist, but Secret {ROOT_KEY_SECRET} does not: restore it "
                "from a backup; a new root key could open none of them"
            )
        created = self._secrets.create(self._build_secret())
        if created is None:
            created = self._secrets.get(ROOT_KEY_SECRET)
        if created is None:
            raise DependencyTimeoutError("the root key was deleted while it was read")
        return self._parse(created)

    def _build_secret(self) -> dict[str, Any]:
        return {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": ROOT_KEY_TYPE,
            "immutable": True,
            "metadata": {
                "name": ROOT_KEY_SECRET,
                "namespace": self._secrets.namespace,
                "labels": {LABEL_MANAGED_BY: MANAGED_BY},
            },
            "data": {
                FIELD_KEY: base64.b64encode(self._random(ROOT_KEY_BYTES)).decode(),
                FIELD_CLUSTER_NAME: base64.b64encode(self._cluster_name.encode()).decode(),
            },
        }

    def _parse(self, secret: dict[str, Any]) -> RootKey:
        data = secret.get("data") or {}
        try:
            # One that was made by hand, or before there was this field, tells no name.
            made_for = base64.b64decode(data.get(FIELD_CLUSTER_NAME, ""), validate=True).decode()
            root_key = RootKey(base64.b64decode(data[FIELD_KEY], validate=True))
        except (KeyError, TypeError, ValueError, binascii.Error):
            raise RootKeyError(
                f"Secret {ROOT_KEY_SECRET} does not hold a root key of {ROOT_KEY_BYTES} bytes"
            ) from None
        if made_for and made_for != self._cluster_name:
            raise RootKeyError(
                f"clusterName is {self._cluster_name}, but the keys here are made for {made_for}, and can't "
                f"be used under another name: set it back to {made_for}; nothing was changed (if there is "
                f"no key yet, delete Secret {ROOT_KEY_SECRET} instead)"
            )
        return root_key


def check_root_key(record_count: int, broken_count: int, newer_count: int) -> None:
    """Check that the root key opens what is stored, and that this version reads it.

    Args:
        record_count: Records that can be read.
        broken_count: Records that can't.
        newer_count: Those of them that are authentic, but have a later format version.

    Raises:
        RootKeyError: Records exist and none can be read.
    """
    if newer_count and not record_count:
        raise RootKeyError(
            f"{newer_count} stored records have a later format version than this key service reads: "
            "run the version that wrote them, or a later one; nothing was changed"
        )
    if broken_count and not record_count:
        raise RootKeyError(
            f"none of the {broken_count} stored records is authentic under Secret {ROOT_KEY_SECRET}: "
            "it isn't the root key that sealed them; restore the right one from a backup"
        )
