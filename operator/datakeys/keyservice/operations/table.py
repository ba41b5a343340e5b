"""Every operation by its name on the wire, and whether it may block on the store.

Zone: no secrets.
"""

from dataclasses import dataclass
from typing import Final

from datakeys.keyservice.operations import aliases, grants, key_deletion, switch_key
from datakeys.keyservice.operations.call import Operation
from datakeys.keyservice.operations.create_key import create_key
from datakeys.keyservice.operations.decrypt import decrypt
from datakeys.keyservice.operations.describe_key import describe_key
from datakeys.keyservice.operations.encrypt import encrypt
from datakeys.keyservice.operations.generate_data_key import generate_data_key
from datakeys.keyservice.operations.generate_data_key_without_plaintext import (
    generate_data_key_without_plaintext,
)


@dataclass(frozen=True, slots=True)
class Verb:
    """One API verb. ``writes``: it may block on the store, so it never runs on the event loop."""

    name: str
    run: Operation
    writes: bool


VERBS: Final = {
    verb.name: verb
    for verb in (
        Verb("CancelKeyDeletion", key_deletion.cancel_key_deletion, writes=True),
        Verb("CreateAlias", aliases.create_alias, writes=True),
        Verb("CreateGrant", grants.create_grant, writes=True),
        Verb("CreateKey", create_key, writes=True),
        Verb("Decrypt", decrypt, writes=False),
        Verb("DeleteAlias", aliases.delete_alias, writes=True),
        Verb("DescribeKey", describe_key, writes=False),
        Verb("DisableKey", switch_key.disable_key, writes=True),
        Verb("EnableKey", switch_key.enable_key, writes=True),
        Verb("Encrypt", encrypt, writes=False),
        Verb("GenerateDataKey", generate_data_key, writes=False),
        Verb("GenerateDataKeyWithoutPlaintext", generate_data_key_without_plaintext, writes=False),
        Verb("ListAliases", aliases.list_aliases, writes=False),
        Verb("ListGrants", grants.list_grants, writes=False),
        Verb("RevokeGrant", grants.revoke_grant, writes=True),
        Verb("ScheduleKeyDeletion", key_deletion.schedule_key_deletion, writes=True),
        Verb("UpdateAlias", aliases.update_alias, writes=True),
    )
}
