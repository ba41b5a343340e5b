"""GetKeyPolicy, PutKeyPolicy, ListKeyPolicies: who may do what with a key, in its own words.

Zone: no key material. Source: AWS KMS API; kms-semantics section 4.3. A key has one policy, named default.
The text is kept as it came; a key that was given none has the default policy, which is built when asked for.
"""

import re
from dataclasses import replace
from typing import Any, Final

from datakeys.contract.errors import MalformedPolicyDocumentError, NotFoundError
from datakeys.keyservice.authz.key_policy import Verdict
from datakeys.keyservice.authz.policy_document import build_default_policy, parse_policy
from datakeys.keyservice.authz.principal import PrincipalKind
from datakeys.keyservice.operations.access import (
    ask_key_policy,
    ask_rbac,
    decide,
    read_key_id,
    resolve,
)
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.changes import change_key
from datakeys.keyservice.operations.paging import build_page, read_page
from datakeys.keyservice.operations.validation import Members
from datakeys.keyservice.store.records import KeyRecord

POLICY_NAME: Final = "default"
MAX_POLICY: Final = 131_072
_MAX_POLICY_NAME: Final = 128
_NAME: Final = re.compile(r"[\w]+", re.ASCII)
#: Source: AWS KMS API, shape PolicyType.
_TEXT: Final = re.compile("[\t\n\r -\u00ff]+")
_LOCKED_OUT: Final = "The new key policy will not allow you to update the key policy in the future."


def get_key_policy(service: Service, call: Call) -> dict[str, Any]:
    """Answer Policy and PolicyName.

    Raises:
        ValidationError: A constraint is broken.
        NotFoundError: No such key, an alias, or a policy of another name.
        AccessDeniedError: Not allowed.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    name = _read_name(members)
    members.finish()
    record = resolve(service, call, "GetKeyPolicy", key_id, alias_allowed=False)
    _check_name(name)
    return {"Policy": record.policy or _build_default(service, record), "PolicyName": POLICY_NAME}


def put_key_policy(service: Service, call: Call) -> dict[str, Any]:
    """Answer an empty object; works in every key state.

    Raises:
        ValidationError: A constraint is broken.
        NotFoundError: No such key, an alias, or a policy of another name.
        AccessDeniedError: Not allowed.
        LimitExceededError: The policy is longer than 32,768 bytes.
        MalformedPolicyDocumentError: It isn't a key policy, or it locks the caller out.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    name = _read_name(members)
    text = read_policy(members, required=True)
    bypass = members.boolean("BypassPolicyLockoutSafetyCheck")
    members.finish()
    record = resolve(service, call, "PutKeyPolicy", key_id, alias_allowed=False, state_checked=False)
    _check_name(name)
    check_policy(service, call, record, text, bypass=bypass)
    change_key(service, call, "PutKeyPolicy", record, lambda current: replace(current, policy=text))
    return {}


def list_key_policies(service: Service, call: Call) -> dict[str, Any]:
    """Answer PolicyNames: there is one.

    Raises:
        ValidationError: A constraint is broken.
        InvalidMarkerError: The marker isn't valid.
        NotFoundError: No such key; an alias isn't accepted.
        AccessDeniedError: Not allowed.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    page = read_page(members)
    members.finish()
    resolve(service, call, "ListKeyPolicies", key_id, alias_allowed=False)
    return build_page([POLICY_NAME], page, member="PolicyNames", sort_key=str, entry=str)


def read_policy(members: Members, *, required: bool = False) -> str:
    """Return the member Policy of 1..131,072 characters of Latin-1; empty if it is absent."""
    read = members.required_string if required else members.string
    return read("Policy", minimum=1, maximum=MAX_POLICY, pattern=_TEXT)


def check_policy(service: Service, call: Call, record: KeyRecord, text: str, *, bypass: bool) -> None:
    """Check a new policy of a key: its form, and that the caller may still change it afterwards.

    Raises:
        LimitExceededError: The policy is longer than 32,768 bytes.
        MalformedPolicyDocumentError: It isn't a key policy, or it locks the caller out.
        DependencyTimeoutError: Only RBAC can tell, and it can't be asked.
    """
    parse_policy(text, service.realm)
    if not bypass and not _keeps_control(service, call, replace(record, policy=text)):
        raise MalformedPolicyDocumentError(_LOCKED_OUT)


def _keeps_control(service: Service, call: Call, record: KeyRecord) -> bool:
    operation = "PutKeyPolicy"
    if call.principal.kind is PrincipalKind.ACCOUNT_ROOT:
        # The root could always change it here, but at AWS it couldn't: what is tested here must work there.
        verdict = ask_key_policy(service, call, operation, record)
        return verdict in (Verdict.PRINCIPAL, Verdict.ACCOUNT)
    decision = decide(call, operation, service, record)
    return ask_rbac(service, call, operation, record) if decision.needs_rbac else decision.allowed


def _build_default(service: Service, record: KeyRecord) -> str:
    realm = service.realm
    return build_default_policy(realm.root_arn(record.account), is_cluster=realm.is_cluster)


def _read_name(members: Members) -> str:
    return members.string("PolicyName", minimum=1, maximum=_MAX_POLICY_NAME, pattern=_NAME)


def _check_name(name: str) -> None:
    if name not in ("", POLICY_NAME):
        raise NotFoundError("No such policy exists")
