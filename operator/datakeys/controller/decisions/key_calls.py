"""Which calls bring a KMS key to what its KmsKey says. Zone: no secrets, no I/O.

What the spec gives is made so. What it gave before and gives no more goes back to the default. What it never
gave is left alone: a tag, a policy or a rotation that was set by a call of the key service's API stays.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final

from datakeys.contract.key_types import DEFAULT_ROTATION_PERIOD_DAYS, KeyState

Spec = Mapping[str, Any]

POLICY_NAME: Final = "default"


class KeyOperation(StrEnum):
    """The operations by which the controller changes a key."""

    ENABLE_KEY = "EnableKey"
    DISABLE_KEY = "DisableKey"
    UPDATE_KEY_DESCRIPTION = "UpdateKeyDescription"
    PUT_KEY_POLICY = "PutKeyPolicy"
    TAG_RESOURCE = "TagResource"
    UNTAG_RESOURCE = "UntagResource"
    ENABLE_KEY_ROTATION = "EnableKeyRotation"
    DISABLE_KEY_ROTATION = "DisableKeyRotation"
    ROTATE_KEY_ON_DEMAND = "RotateKeyOnDemand"


@dataclass(frozen=True, slots=True)
class KeyCall:
    """One call, with all members but KeyId."""

    operation: KeyOperation
    members: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class ActualKey:
    """A key as it is; None: not looked at, so nothing is changed.

    Attributes:
        policy: The text of the key policy.
        rotation_days: Days between rotations, 0 if rotation is off.
        rotation_due: A rotation on demand is still to be made.
    """

    state: str
    description: str = ""
    tags: Mapping[str, str] | None = None
    policy: str | None = None
    rotation_days: int | None = None
    rotation_due: bool = False


def manages(spec: Spec, former: Spec, name: str) -> bool:
    """Return whether a member is the spec's business, now or until now."""
    return spec.get(name) is not None or former.get(name) is not None


def decide_key_calls(account: str, spec: Spec, former: Spec, actual: ActualKey) -> list[KeyCall]:
    """Return the calls in their order: enabled first and disabled last, as rotation needs an enabled key.

    Args:
        account: The key's account, for the default policy.
        spec: What the KmsKey says.
        former: What it said when it was last applied; empty if never.
        actual: The key as it is.
    """
    enabled = bool(spec.get("enabled", True))
    return [
        *_when(actual.state == KeyState.DISABLED and enabled, KeyOperation.ENABLE_KEY),
        *_describe(spec, former, actual),
        *_put_policy(account, spec, former, actual),
        *_tag(spec.get("tags") or {}, former.get("tags") or {}, actual.tags),
        *_rotate(spec, former, actual.rotation_days),
        *_when(actual.rotation_due, KeyOperation.ROTATE_KEY_ON_DEMAND),
        *_when(actual.state == KeyState.ENABLED and not enabled, KeyOperation.DISABLE_KEY),
    ]


def state_after(state: str, done: Iterable[KeyCall]) -> str:
    """Return the key state after calls that have succeeded."""
    for call in done:
        if call.operation is KeyOperation.ENABLE_KEY:
            state = KeyState.ENABLED
        elif call.operation is KeyOperation.DISABLE_KEY:
            state = KeyState.DISABLED
    return state


def build_default_policy(account: str) -> str:
    """Return the policy of a key that is given none: it leaves the decision to the account.

    Source: kms-semantics section 4.3.
    """
    statement = {
        "Sid": "Enable RBAC Permissions",
        "Effect": "Allow",
        "Principal": {"Kubernetes": f"arn:k8s:iam::{account}:root"},
        "Action": "kms:*",
        "Resource": "*",
    }
    return json.dumps({"Version": "2012-10-17", "Id": "key-default-1", "Statement": [statement]})


def _when(needed: bool, operation: KeyOperation, **members: Any) -> list[KeyCall]:  # noqa: ANN401
    return [KeyCall(operation, members)] if needed else []


def _describe(spec: Spec, former: Spec, actual: ActualKey) -> list[KeyCall]:
    wanted = spec.get("description") or ""
    differs = manages(spec, former, "description") and wanted != actual.description
    return _when(differs, KeyOperation.UPDATE_KEY_DESCRIPTION, Description=wanted)


def _put_policy(account: str, spec: Spec, former: Spec, actual: ActualKey) -> list[KeyCall]:
    if actual.policy is None or not manages(spec, former, "policy"):
        return []
    wanted = spec.get("policy") or build_default_policy(account)
    differs = not _says_the_same(wanted, actual.policy)
    return _when(differs, KeyOperation.PUT_KEY_POLICY, PolicyName=POLICY_NAME, Policy=wanted)


def _tag(
    wanted: Mapping[str, str], former: Mapping[str, str], actual: Mapping[str, str] | None
) -> list[KeyCall]:
    if actual is None:
        return []
    gone = sorted(key for key in former if key not in wanted and key in actual)
    new = [
        {"TagKey": key, "TagValue": value}
        for key, value in sorted(wanted.items())
        if actual.get(key) != value
    ]
    # First away with the old ones: a key has a limited number of tags.
    return [
        *_when(bool(gone), KeyOperation.UNTAG_RESOURCE, TagKeys=gone),
        *_when(bool(new), KeyOperation.TAG_RESOURCE, Tags=new),
    ]


def _rotate(spec: Spec, former: Spec, actual_days: int | None) -> list[KeyCall]:
    if actual_days is None or not manages(spec, former, "rotation"):
        return []
    rotation = spec.get("rotation") or {}
    if not rotation.get("enabled"):
        return _when(actual_days > 0, KeyOperation.DISABLE_KEY_ROTATION)
    days = int(rotation.get("periodDays") or DEFAULT_ROTATION_PERIOD_DAYS)
    return _when(days != actual_days, KeyOperation.ENABLE_KEY_ROTATION, RotationPeriodInDays=days)


def _says_the_same(one: str, other: str) -> bool:
    """Return whether two policies are the same JSON, however it is written."""
    try:
        return bool(json.loads(one) == json.loads(other))
    except (ValueError, RecursionError):
        return one == other
