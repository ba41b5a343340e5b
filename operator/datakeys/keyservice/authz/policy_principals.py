"""Whom a key policy's statement names: everybody, whole accounts, or single principals.

Zone: pure. Source: docs/architecture.md, "Who may call what"; AWS IAM, "AWS JSON policy elements: Principal".
A bare name that could be a namespace is a namespace; a Kubernetes user with such a name can't be named.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from datakeys.contract.identity import service_account_principal
from datakeys.keyservice.authz.realm import Realm

_NAMESPACE: Final = r"[a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?"
_ACCOUNT_NAME: Final = re.compile(_NAMESPACE)
_ROOT: Final = re.compile(rf"arn:k8s:iam::({_NAMESPACE}):root")
_SERVICE_ACCOUNT: Final = re.compile(rf"arn:k8s:iam::({_NAMESPACE}):serviceaccount/([a-z0-9.-]{{1,253}})")
_AWS_ACCOUNT: Final = re.compile(r"\d{12}", re.ASCII)
_AWS_ROOT: Final = re.compile(r"arn:aws[a-z-]*:iam::(\d{12}):root", re.ASCII)
#: Kinds of principals that a local mode takes, although nobody there is one.
_FOREIGN_KINDS: Final = frozenset({"Service", "Federated", "CanonicalUser"})
EVERYONE: Final = "*"


@dataclass(frozen=True, slots=True)
class Principals:
    """The principals of a statement; ``names`` are user names or, in the local mode, ARNs."""

    everyone: bool
    accounts: frozenset[str]
    names: frozenset[str]


def parse_principals(raw: Any, realm: Realm) -> Principals:  # noqa: ANN401 - JSON
    """Parse the element Principal or NotPrincipal.

    Raises:
        ValueError: It isn't one; the text says why.
    """
    everyone, accounts, names = False, set[str](), set[str]()
    for kind, text in _list_entries(raw):
        if kind in _FOREIGN_KINDS:
            if realm.is_cluster:
                raise ValueError(f"a principal of kind {kind} doesn't exist here")
        elif kind != "AWS" and (kind != "Kubernetes" or not realm.is_cluster):
            raise ValueError(
                "the kind of a principal must be " + ("Kubernetes" if realm.is_cluster else "AWS")
            )
        elif text == EVERYONE:
            everyone = True
        else:
            account, name = (_parse_cluster if realm.is_cluster else _parse_aws)(text, realm)
            accounts |= {account} if account else set()
            names |= {name} if name else set()
    return Principals(everyone, frozenset(accounts), frozenset(names))


def _list_entries(raw: Any) -> list[tuple[str, str]]:  # noqa: ANN401 - JSON
    if raw == EVERYONE:
        return [("AWS", EVERYONE)]
    if not isinstance(raw, Mapping) or not raw:
        raise ValueError('must be "*" or a map from a kind to principals')
    entries: list[tuple[str, str]] = []
    for kind, value in raw.items():
        texts = value if isinstance(value, list) else [value]
        if not texts or not all(isinstance(text, str) and text for text in texts):
            raise ValueError("must name principals as strings")
        entries += [(kind, text) for text in texts]
    return entries


def _parse_cluster(text: str, _: Realm) -> tuple[str, str]:
    """Return the account or the user name that a text stands for; the other one is empty."""
    if _ACCOUNT_NAME.fullmatch(text):
        return text, ""
    if found := _ROOT.fullmatch(text):
        return found[1], ""
    if found := _SERVICE_ACCOUNT.fullmatch(text):
        return "", service_account_principal(found[1], found[2])
    if text.startswith("arn:") or "*" in text or "?" in text or "${" in text:
        raise ValueError("one or more principals are invalid")
    return "", text


def _parse_aws(text: str, realm: Realm) -> tuple[str, str]:
    if _AWS_ACCOUNT.fullmatch(text):
        return text, ""
    if found := _AWS_ROOT.fullmatch(text):
        return found[1], ""
    if not realm.is_principal(text):
        raise ValueError("one or more principals are invalid")
    return "", text
