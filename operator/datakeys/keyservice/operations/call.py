"""What an operation gets: the service it runs in and the call it serves.

Zone: no HTTP. The facts for the audit record are filled in as they become known, so a failed call has them
too.
"""

import uuid
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from datakeys.keyservice.authz.principal import Principal
from datakeys.keyservice.authz.rbac import Authorizer, FixedAuthorizer
from datakeys.keyservice.authz.realm import Realm
from datakeys.keyservice.material.derive import RandomSource
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.operations.keyring import Keyring
from datakeys.keyservice.store.interface import KeyStore
from datakeys.keyservice.store.key_changes import KeyChanges

#: Seconds since the epoch.
Clock = Callable[[], float]

EMPTY_CONTEXT: Final[Mapping[str, str]] = {}


@dataclass(slots=True)
class AuditFacts:
    """What a call was about. Nothing of it is secret."""

    key_arn: str = ""
    context: Mapping[str, str] = field(default_factory=dict)
    ciphertext_blob: bytes = b""
    reason: str = ""
    dry_run: bool = False
    source_key_arn: str = ""
    source_context: Mapping[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Call:
    """One authenticated call.

    Attributes:
        principal: The verified caller.
        account: The account (namespace) it acts for.
        body: The decoded JSON object.
        object_name: The header ``X-Datakeys-Object-Name``, or empty.
        audit: Filled in by the operation.
        missing_key_id: A key that memory lacks (as yet), or whose material a ciphertext names in vain.
        may_block: Whether the operation may wait for the cluster; on the event loop it may not.
        aliases: Key id to the alias by which the request named the key.
        renewal: Set by ReEncrypt if both sides have the same key and the same context.
    """

    principal: Principal
    account: str
    body: Mapping[str, Any] = field(repr=False)
    object_name: str = ""
    audit: AuditFacts = field(default_factory=AuditFacts)
    missing_key_id: str = ""
    may_block: bool = True
    aliases: dict[str, str] = field(default_factory=dict)
    renewal: bool = False


class WouldBlockError(Exception):
    """The operation must wait for the cluster, but may not: it is to be run again where it may.

    Raised before anything is changed or answered; never seen by callers.
    """


@dataclass(frozen=True, slots=True)
class Service:
    """What all operations share.

    Attributes:
        realm: Spells ARNs and principals.
        store: The records.
        root_key: Seals new material and authenticates grant tokens.
        keyring: Opened material.
        clock: Seconds since the epoch.
        random: Random bytes.
        changes: The latest changes of keys.
        authorizer: Answers what key policies leave to the account's RBAC.
    """

    realm: Realm
    store: KeyStore
    root_key: RootKey
    keyring: Keyring
    clock: Clock
    random: RandomSource
    changes: KeyChanges = field(default_factory=lambda: KeyChanges(uuid.uuid4().hex))
    authorizer: Authorizer = field(default_factory=lambda: FixedAuthorizer(allowed=False))

    def key_arn(self, account: str, key_id: str) -> str:
        """Return a key's ARN."""
        return self.realm.key_arn(account, key_id)


#: One API verb: reads the call's body, returns the answer's JSON object.
Operation = Callable[[Service, Call], dict[str, Any]]
#: Waits on the event loop for what a verb is to answer.
Wait = Callable[[Service, Call], Awaitable[None]]
