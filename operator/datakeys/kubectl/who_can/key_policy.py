"""Rights by a key policy, statement by statement, as it is written in the KmsKey.

Zone: no I/O. Conditions are told, not judged: they depend on the call. The key service judges them
(docs/adr/0009).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.crd.kmsgrant import GrantOperation
from datakeys.contract.wildcards import matches_wildcards
from datakeys.kubectl.answers import Json, UserError, name_of, namespace_of
from datakeys.kubectl.key_names import status_of
from datakeys.kubectl.who_can.rights import Right, Source

_EVERYBODY: Final = "*"
_NAMESPACE: Final = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_ROOT: Final = re.compile(rf"(?:arn:k8s:iam::)?({_NAMESPACE})(?::root)?")
_ACCOUNT_ARN: Final = re.compile(rf"arn:k8s:iam::({_NAMESPACE}):serviceaccount/([a-z0-9.-]+)")
_ACCOUNT_USER: Final = re.compile(rf"system:serviceaccount:({_NAMESPACE}):([a-z0-9.-]+)")


@dataclass(frozen=True, slots=True)
class Statement:
    """A statement that speaks of one of the operations.

    Attributes:
        label: Its Sid or its number.
        negated: It names whom it is not about.
        whole: It speaks of all of the operations.
    """

    label: str
    denies: bool
    principals: tuple[str, ...]
    negated: bool
    conditional: bool
    whole: bool


def parse_policy(key: Json, operations: Sequence[GrantOperation]) -> list[Statement] | None:
    """Return the statements of a key's policy that speak of one of the operations; None: the default policy.

    Raises:
        UserError: The policy isn't a policy. The controller will have refused it as well.
    """
    text = (key.get("spec") or {}).get("policy")
    if not text:
        return None
    try:
        listed = json.loads(text)["Statement"]
        statements = listed if isinstance(listed, list) else [listed]
        found = [
            _parse(number, one, whole=all(_covers(one, key, [operation]) for operation in operations))
            for number, one in enumerate(statements, 1)
            if _covers(one, key, operations)
        ]
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UserError(
            f"spec.policy of KmsKey {name_of(key)} isn't a key policy: see its condition Synced"
        ) from None
    return found


def is_opened(statements: Sequence[Statement] | None, namespace: str) -> bool:
    """Return whether the policy lets the RBAC of a namespace decide; the default policy does."""
    if statements is None:
        return True
    return any(
        not one.denies
        and not one.negated
        and any(
            kind in ("Namespace", "Everybody") and name in ("", namespace) for kind, _, name in _read(one)
        )
        for one in statements
    )


def find_denial(
    statements: Sequence[Statement] | None, kind: str, namespace: str, name: str
) -> Statement | None:
    """Return the statement that denies a principal all of the operations, the unconditional one first.

    A namespace that is named stands for its ServiceAccounts; NotPrincipal exempts only whom it names itself.
    """
    denials = [
        one for one in statements or () if one.denies and one.whole and _is_about(one, kind, namespace, name)
    ]
    return next((one for one in denials if not one.conditional), next(iter(denials), None))


def _is_about(statement: Statement, kind: str, namespace: str, name: str) -> bool:
    named = set(_read(statement))
    itself = bool({("Everybody", "", ""), (kind, namespace, name)} & named)
    return not itself if statement.negated else itself or ("Namespace", "", namespace) in named


def list_policy_rights(statements: Sequence[Statement] | None, key: Json) -> Iterator[Right]:
    """Give what the statements say, statement by statement."""
    for one in statements or ():
        for kind, namespace, name in _read(one):
            yield Right(
                kind=("Everybody but " if one.negated else "") + kind,
                namespace=namespace,
                name=name,
                source=Source.KEY_POLICY,
                given_by=f"statement {one.label}",
                note=_tell_limits(one, kind, name, namespace_of(key)),
                denies=one.denies,
            )


def _read(statement: Statement) -> Iterator[tuple[str, str, str]]:
    """Give kind, namespace and name of each principal."""
    for text in statement.principals:
        account = _ACCOUNT_ARN.fullmatch(text) or _ACCOUNT_USER.fullmatch(text)
        root = _ROOT.fullmatch(text)
        if text == _EVERYBODY:
            yield "Everybody", "", ""
        elif account:
            yield "ServiceAccount", account[1], account[2]
        elif root:
            yield "Namespace", "", root[1]
        else:
            yield "User", "", text


def _tell_limits(statement: Statement, kind: str, name: str, namespace: str) -> str:
    notes = []
    if statement.conditional:
        notes.append("under conditions: read the statement")
    if not statement.denies and kind == "Namespace":
        notes.append(f"RBAC there decides{'' if name == namespace else ' too'}")
    return "; ".join(notes)


def _parse(number: int, statement: Mapping[str, Any], *, whole: bool) -> Statement:
    negated = "NotPrincipal" in statement
    raw = statement["NotPrincipal" if negated else "Principal"]
    listed = [raw] if isinstance(raw, str) else [text for value in raw.values() for text in _as_list(value)]
    return Statement(
        label=str(statement.get("Sid") or number),
        denies=statement["Effect"] == "Deny",
        principals=tuple(listed),
        negated=negated,
        conditional=bool(statement.get("Condition")),
        whole=whole,
    )


def _covers(statement: Mapping[str, Any], key: Json, operations: Sequence[GrantOperation]) -> bool:
    actions = [f"kms:{operation}" for operation in operations]
    arn = str(status_of(key).get("arn") or "")
    return _matches_any(statement, "Action", actions) and _matches_any(statement, "Resource", [arn])


def _matches_any(statement: Mapping[str, Any], element: str, texts: Sequence[str]) -> bool:
    """Return whether an element, or its negation, covers one of the texts."""
    negated = f"Not{element}" in statement
    patterns = _as_list(statement.get(f"Not{element}" if negated else element, []))
    if element == "Action":  # its letters' case doesn't count
        patterns, texts = [one.lower() for one in patterns], [one.lower() for one in texts]
    return bool(patterns) and any(
        any(matches_wildcards(pattern, text) for pattern in patterns) is not negated for text in texts
    )


def _as_list(value: Any) -> list[str]:  # noqa: ANN401 - JSON
    return list(value) if isinstance(value, list) else [value]
