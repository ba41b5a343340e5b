"""Every operation by its name on the wire, and whether it may block.

Zone: no secrets.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from datakeys.keyservice.operations import (
    aliases,
    grants,
    import_material,
    key_deletion,
    key_policies,
    macs,
    retire_grant,
    rotation,
    signatures,
    switch_key,
    tags,
)
from datakeys.keyservice.operations.call import Operation, Wait
from datakeys.keyservice.operations.create_key import create_key
from datakeys.keyservice.operations.crypto_request import is_asymmetric
from datakeys.keyservice.operations.decrypt import decrypt
from datakeys.keyservice.operations.describe_key import describe_key
from datakeys.keyservice.operations.encrypt import encrypt
from datakeys.keyservice.operations.generate_data_key import generate_data_key
from datakeys.keyservice.operations.generate_data_key_pair import (
    generate_data_key_pair,
    generate_data_key_pair_without_plaintext,
)
from datakeys.keyservice.operations.generate_data_key_without_plaintext import (
    generate_data_key_without_plaintext,
)
from datakeys.keyservice.operations.generate_random import generate_random
from datakeys.keyservice.operations.list_key_rotations import list_key_rotations
from datakeys.keyservice.operations.list_keys import list_keys
from datakeys.keyservice.operations.re_encrypt import re_encrypt
from datakeys.keyservice.operations.update_key_description import update_key_description
from datakeys.keyservice.operations.watch_keys import wait_for_changes, watch_keys


@dataclass(frozen=True, slots=True)
class Verb:
    """One API verb.

    Attributes:
        name: Its name on the wire.
        run: The operation.
        blocks: It may wait for the store, or computes for long: it never runs on the event loop.
        wait: What it waits for on the event loop before it runs. Such a verb is the controller's own: it
            belongs to no account.
        slow: Whether a call with this body computes for long, where that depends on the body.
    """

    name: str
    run: Operation
    blocks: bool
    wait: Wait | None = None
    slow: Callable[[Mapping[str, Any]], bool] | None = None

    def leaves_loop(self, body: Mapping[str, Any]) -> bool:
        """Return whether a call must not run on the event loop."""
        return self.blocks or (self.slow is not None and self.slow(body))


VERBS: Final = {
    verb.name: verb
    for verb in (
        Verb("CancelKeyDeletion", key_deletion.cancel_key_deletion, blocks=True),
        Verb("CreateAlias", aliases.create_alias, blocks=True),
        Verb("CreateGrant", grants.create_grant, blocks=True),
        Verb("CreateKey", create_key, blocks=True),
        Verb("Decrypt", decrypt, blocks=False, slow=is_asymmetric),
        Verb("DeleteAlias", aliases.delete_alias, blocks=True),
        Verb("DescribeKey", describe_key, blocks=False),
        Verb("DisableKey", switch_key.disable_key, blocks=True),
        Verb("EnableKey", switch_key.enable_key, blocks=True),
        Verb("Encrypt", encrypt, blocks=False, slow=is_asymmetric),
        Verb("GenerateDataKey", generate_data_key, blocks=False),
        Verb("GenerateDataKeyWithoutPlaintext", generate_data_key_without_plaintext, blocks=False),
        Verb("GenerateDataKeyPair", generate_data_key_pair, blocks=True),
        Verb("GenerateDataKeyPairWithoutPlaintext", generate_data_key_pair_without_plaintext, blocks=True),
        Verb("GenerateMac", macs.generate_mac, blocks=False),
        Verb("GenerateRandom", generate_random, blocks=False),
        Verb("GetPublicKey", signatures.get_public_key, blocks=True),
        Verb("ReEncrypt", re_encrypt, blocks=False, slow=is_asymmetric),
        Verb("Sign", signatures.sign, blocks=True),
        Verb("Verify", signatures.verify, blocks=True),
        Verb("VerifyMac", macs.verify_mac, blocks=False),
        Verb("GetKeyPolicy", key_policies.get_key_policy, blocks=False),
        Verb("ListKeyPolicies", key_policies.list_key_policies, blocks=False),
        Verb("ListRetirableGrants", retire_grant.list_retirable_grants, blocks=True),
        Verb("PutKeyPolicy", key_policies.put_key_policy, blocks=True),
        Verb("RetireGrant", retire_grant.retire_grant, blocks=True),
        Verb("ListAliases", aliases.list_aliases, blocks=False),
        Verb("ListKeys", list_keys, blocks=True),
        Verb("ListResourceTags", tags.list_resource_tags, blocks=False),
        Verb("TagResource", tags.tag_resource, blocks=True),
        Verb("UntagResource", tags.untag_resource, blocks=True),
        Verb("UpdateKeyDescription", update_key_description, blocks=True),
        Verb("ListGrants", grants.list_grants, blocks=False),
        Verb("DisableKeyRotation", rotation.disable_key_rotation, blocks=True),
        Verb("EnableKeyRotation", rotation.enable_key_rotation, blocks=True),
        Verb("GetKeyRotationStatus", rotation.get_key_rotation_status, blocks=False),
        Verb("ListKeyRotations", list_key_rotations, blocks=False),
        Verb("RotateKeyOnDemand", rotation.rotate_key_on_demand, blocks=True),
        Verb("DeleteImportedKeyMaterial", import_material.delete_imported_key_material, blocks=True),
        Verb("GetParametersForImport", import_material.get_parameters_for_import, blocks=True),
        Verb("ImportKeyMaterial", import_material.import_key_material, blocks=True),
        Verb("RevokeGrant", grants.revoke_grant, blocks=True),
        Verb("ScheduleKeyDeletion", key_deletion.schedule_key_deletion, blocks=True),
        Verb("UpdateAlias", aliases.update_alias, blocks=True),
    )
}

#: Not an operation of AWS KMS, and so not under its target prefix.
WATCH_KEYS: Final = Verb("WatchKeys", watch_keys, blocks=False, wait=wait_for_changes)
