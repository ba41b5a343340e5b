"""Ids: of KMS keys, of their material and of grants. All are random and say nothing about the material.

Zone: no secrets. Source: AWS KMS API, KeyId and KeyMaterialId; kms-semantics section 6.
"""

import uuid
from typing import Final

from datakeys.keyservice.material.derive import RandomSource

MATERIAL_ID_BYTES: Final = 32


def new_key_id(random: RandomSource) -> str:
    """Return a random UUID, version 4, in lower-case text."""
    return str(uuid.UUID(bytes=random(16), version=4))


def new_material_id(random: RandomSource) -> str:
    """Return 64 lower-case hex characters."""
    return random(MATERIAL_ID_BYTES).hex()
