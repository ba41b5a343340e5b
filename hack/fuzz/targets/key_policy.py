"""Key policies: a policy that can't be read denies, and none can make a decision fail or hang."""

import json
from collections.abc import Iterator
from typing import Final

from datakeys.contract.errors import LimitExceededError, MalformedPolicyDocumentError
from datakeys.keyservice.authz.conditions import ConditionFacts
from datakeys.keyservice.authz.grant_rules import GrantWish
from datakeys.keyservice.authz.key_policy import PolicyQuestion, Verdict, evaluate_policy
from datakeys.keyservice.authz.policy_document import build_default_policy, parse_policy
from datakeys.keyservice.authz.realm import Realm
from fuzz.target import Target, require, split_line

_REALMS: Final = {"aws": Realm("us-east-1", "aws"), "cluster": Realm("cluster-1")}
_OPERATORS: Final = (
    *("StringEquals", "StringNotEquals", "StringLike", "StringNotLike", "StringEqualsIgnoreCase", "ArnLike"),
    *("ArnNotEquals", "Bool", "Null", "StringEqualsIfExists", "ForAllValues:StringLike", "NumericEquals"),
    "ForAnyValue:StringNotEquals",
)
_KEYS: Final = (
    *("kms:EncryptionContext:purpose", "kms:EncryptionContextKeys", "kms:CallerAccount", "kms:KeySpec"),
    *(
        "kms:GrantOperations",
        "kms:GranteePrincipal",
        "kms:ResourceAliases",
        "kms:RequestAlias",
        "aws:PrincipalArn",
    ),
)
_LONG: Final = "a" * 500


class KeyPolicyTarget(Target):
    """``parse_policy`` and ``evaluate_policy``; the first line is the realm."""

    words = (*_OPERATORS, *_KEYS, "NotPrincipal", "NotAction", "NotResource", "kms:*", "*a*a*b", "${aws:a}")
    has_json = True

    def seeds(self) -> Iterator[bytes]:
        """Return the default policies, and statements with each condition."""
        for name, realm in _REALMS.items():
            root = realm.root_arn("team-a" if realm.is_cluster else "123456789012")
            head = name.encode() + b"\n"
            yield head + build_default_policy(root, is_cluster=realm.is_cluster).encode()
            for number, operator in enumerate(_OPERATORS):
                key = _KEYS[number % len(_KEYS)]
                statement = {
                    "Effect": ("Allow", "Deny")[number % 2],
                    "Principal": {("Kubernetes" if realm.is_cluster else "AWS"): [root, "*"]},
                    "Action": ["kms:Decrypt", "kms:Generate*"],
                    "Resource": "*",
                    "Condition": {operator: {key: ["*a*a*a", "true"]}},
                }
                yield head + json.dumps({"Version": "2012-10-17", "Statement": statement}).encode()

    def run(self, data: bytes) -> None:
        """Parse the policy, and ask it for decisions."""
        line, raw = split_line(data)
        realm = _REALMS.get(line, _REALMS["cluster"])
        text = raw.decode(errors="replace")
        readable = True
        try:
            parse_policy(text, realm)
        except (LimitExceededError, MalformedPolicyDocumentError):
            readable = False
        for operation in ("Decrypt", "CreateGrant"):
            for name in ("", "system:serviceaccount:team-a:app"):
                verdict = evaluate_policy(text, realm, _ask(realm, operation, name))
                require(readable or verdict is Verdict.DENY, "an unreadable policy must deny", verdict)


def _ask(realm: Realm, operation: str, name: str) -> PolicyQuestion:
    operations = frozenset({"Decrypt", "Encrypt"})
    wish = GrantWish("system:serviceaccount:team-a:app", operations, context_subset={"a": "b"})
    facts = ConditionFacts(
        operation,
        "team-a",
        key_spec="SYMMETRIC_DEFAULT",
        context={"purpose": _LONG, "Purpose": "b"},
        request_alias="alias/a",
        resource_aliases=lambda: [f"alias/{_LONG}", "alias/b"],
        wish=wish if operation == "CreateGrant" else None,
    )
    return PolicyQuestion(name, "team-a", operation, realm.key_arn("team-a", "1"), facts)


def build() -> KeyPolicyTarget:
    """Return the target."""
    return KeyPolicyTarget()
