"""Key policies as JSON: parse, check, and say in which statement and element a fault is.

Zone: pure. Source: AWS KMS Developer Guide, "Elements in a key policy"; AWS IAM, "Grammar of the IAM JSON
policy language"; kms-semantics section 4.3. A statement without Action or Resource is taken and has no
effect. NotPrincipal is taken with Deny only, as IAM advises: with Allow it would let in whom nobody named.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from datakeys.contract.errors import LimitExceededError, MalformedPolicyDocumentError
from datakeys.contract.wildcards import count_work, matches_wildcards
from datakeys.keyservice.authz.conditions import Condition
from datakeys.keyservice.authz.policy_principals import Principals, parse_principals
from datakeys.keyservice.authz.realm import Realm

MAX_POLICY_BYTES: Final = 32_768
_VERSIONS: Final = ("2012-10-17", "2008-10-17")
_DOCUMENT_ELEMENTS: Final = frozenset({"Version", "Id", "Statement"})
_STATEMENT_ELEMENTS: Final = frozenset(
    {
        "Sid",
        "Effect",
        "Principal",
        "NotPrincipal",
        "Action",
        "NotAction",
        "Resource",
        "NotResource",
        "Condition",
    }
)
#: No action and no ARN of a key is longer.
_MAX_COMPARED_CHARACTERS: Final = 256
_ACTION: Final = re.compile(r"\*|[a-zA-Z0-9-]+:[a-zA-Z0-9*?]+")


@dataclass(frozen=True, slots=True)
class Patterns:
    """A list of patterns.

    Attributes:
        patterns: With wildcards; in lower case if case doesn't count.
        negated: The element is NotAction or NotResource.
        work: What a comparison with all of them takes at most, in the unit of ``MAX_WORK``.
    """

    patterns: tuple[str, ...]
    negated: bool
    work: int

    def match(self, text: str) -> bool:
        """Return whether the element covers a text."""
        return any(matches_wildcards(pattern, text) for pattern in self.patterns) is not self.negated


@dataclass(frozen=True, slots=True)
class Statement:
    """One statement. Without ``actions`` or ``resources`` it has no effect."""

    allows: bool
    principals: Principals
    principals_negated: bool
    actions: Patterns | None
    resources: Patterns | None
    conditions: tuple[Condition, ...]


class _FaultError(Exception):
    pass


@lru_cache(maxsize=2048)
def parse_policy(text: str, realm: Realm) -> tuple[Statement, ...]:
    """Return the statements of a key policy.

    Args:
        text: The JSON text, at most 32,768 bytes.
        realm: Decides the form of principals.

    Raises:
        LimitExceededError: The text is too long.
        MalformedPolicyDocumentError: It isn't a key policy; the message names statement and element.
    """
    if len(text.encode()) > MAX_POLICY_BYTES:
        raise LimitExceededError(f"The key policy is longer than {MAX_POLICY_BYTES} bytes.")
    try:
        return _parse_document(_load(text), realm)
    except _FaultError as fault:
        raise MalformedPolicyDocumentError(str(fault)) from None


def build_default_policy(root_arn: str, *, is_cluster: bool) -> str:
    """Return the policy of a key that has none: it leaves the decision to the account."""
    statement = {
        "Sid": "Enable RBAC Permissions" if is_cluster else "Enable IAM User Permissions",
        "Effect": "Allow",
        "Principal": {"Kubernetes" if is_cluster else "AWS": root_arn},
        "Action": "kms:*",
        "Resource": "*",
    }
    return json.dumps({"Version": _VERSIONS[0], "Id": "key-default-1", "Statement": [statement]}, indent=2)


def _load(text: str) -> Any:  # noqa: ANN401 - JSON
    try:
        return json.loads(text, object_pairs_hook=_unique, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise _FaultError("The policy isn't valid JSON, or an element is there twice.") from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("twice")
    return found


def _refuse(_: str) -> None:
    raise ValueError("not JSON")


def _parse_document(raw: Any, realm: Realm) -> tuple[Statement, ...]:  # noqa: ANN401 - JSON
    if not isinstance(raw, Mapping):
        raise _FaultError("The policy must be a JSON object.")
    if unknown := sorted(set(raw) - _DOCUMENT_ELEMENTS):
        raise _FaultError(f"Unknown element {unknown[0]!r}.")
    if "Version" in raw and raw["Version"] not in _VERSIONS:
        raise _FaultError(f"Version: must be one of {', '.join(_VERSIONS)}.")
    if not isinstance(raw.get("Id", ""), str):
        raise _FaultError("Id: must be a string.")
    statements = raw.get("Statement")
    if isinstance(statements, Mapping):
        statements = [statements]
    if not isinstance(statements, list) or not statements:
        raise _FaultError("Statement: must be a list of at least one statement.")
    return tuple(_parse_statement(item, f"Statement[{n}]", realm) for n, item in enumerate(statements))


def _parse_statement(raw: Any, where: str, realm: Realm) -> Statement:  # noqa: ANN401 - JSON
    if not isinstance(raw, Mapping):
        raise _FaultError(f"{where}: must be an object.")
    if unknown := sorted(set(raw) - _STATEMENT_ELEMENTS):
        raise _FaultError(f"{where}: unknown element {unknown[0]!r}.")
    if not isinstance(raw.get("Sid", ""), str):
        raise _FaultError(f"{where}.Sid: must be a string.")
    if raw.get("Effect") not in ("Allow", "Deny"):
        raise _FaultError(f"{where}.Effect: must be Allow or Deny.")
    allows = raw["Effect"] == "Allow"
    name, negated = _choose(raw, where, "Principal")
    if name is None:
        raise _FaultError(f"{where}.Principal: every statement needs a Principal.")
    if negated and allows:
        raise _FaultError(f"{where}.NotPrincipal: only a Deny can have it.")
    try:
        principals = parse_principals(raw[name], realm)
    except ValueError as fault:
        raise _FaultError(f"{where}.{name}: {fault}.") from None
    return Statement(
        allows,
        principals,
        negated,
        _parse_patterns(raw, where, "Action"),
        _parse_patterns(raw, where, "Resource"),
        _parse_conditions(raw.get("Condition", {}), f"{where}.Condition"),
    )


def _choose(raw: Mapping[str, Any], where: str, name: str) -> tuple[str | None, bool]:
    """Return which of an element and its negation is there."""
    if name in raw and f"Not{name}" in raw:
        raise _FaultError(f"{where}.{name}: there can't be Not{name} beside it.")
    if name in raw:
        return name, False
    return (f"Not{name}", True) if f"Not{name}" in raw else (None, False)


def _parse_patterns(raw: Mapping[str, Any], where: str, element: str) -> Patterns | None:
    name, negated = _choose(raw, where, element)
    if name is None:
        return None
    texts = raw[name] if isinstance(raw[name], list) else [raw[name]]
    if not texts or not all(isinstance(text, str) and text for text in texts):
        raise _FaultError(f"{where}.{name}: must be a string or a list of strings.")
    is_action = element == "Action"
    for text in texts:
        if (is_action and not _ACTION.fullmatch(text)) or "${" in text:
            raise _FaultError(f"{where}.{name}: {text[:128]!r} isn't valid.")
    patterns = tuple(text.lower() if is_action else text for text in texts)
    return Patterns(patterns, negated, count_work(patterns, _MAX_COMPARED_CHARACTERS))


def _parse_conditions(raw: Any, where: str) -> tuple[Condition, ...]:  # noqa: ANN401 - JSON
    if not isinstance(raw, Mapping) or not all(isinstance(keys, Mapping) for keys in raw.values()):
        raise _FaultError(f"{where}: must map operators to maps of condition keys.")
    return tuple(
        Condition(operator, key, _parse_values(values, f"{where}.{operator}.{key}"))
        for operator, keys in raw.items()
        for key, values in keys.items()
    )


def _parse_values(raw: Any, where: str) -> tuple[str, ...]:  # noqa: ANN401 - JSON
    texts = raw if isinstance(raw, list) else [raw]
    if not texts or not all(isinstance(text, (str, bool, int, float)) for text in texts):
        raise _FaultError(f"{where}: must be a string or a list of strings.")
    return tuple(text if isinstance(text, str) else json.dumps(text) for text in texts)
