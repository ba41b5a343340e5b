"""Versions of a data key: how many there are, and which Secret holds which.

Zone: no secrets, no I/O. The controller makes the Secrets, the webhook mounts them.
"""

from typing import Final

FIRST_VERSION: Final = 1
MAX_VERSION: Final = 16
#: Characters that the longest ending takes, ``.v16``.
MAX_ENDING_CHARACTERS: Final = len(f".v{MAX_VERSION}")


def build_version_secret_name(secret_name: str, version: int) -> str:
    """Return the name of the Secret that holds one version of a data key: ``orders``, ``orders.v2``.

    Args:
        secret_name: The Secret of version 1; with at most 249 characters the result is an object's name.
        version: 1..16.
    """
    return secret_name if version == FIRST_VERSION else f"{secret_name}.v{version}"
