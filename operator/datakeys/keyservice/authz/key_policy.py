"""What a key policy says to one question: deny, allow the principal itself, allow its account, or nothing.

Zone: pure. Source: kms-semantics sections 4.3 and 4.4. An unknown condition never makes an Allow apply and
never keeps a Deny from applying. A policy that can't be read denies. What takes too long is unknown.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from datakeys.contract.errors import LimitExceededError, MalformedPolicyDocumentError
from datakeys.contract.wildcards import MAX_WORK
from datakeys.keyservice.authz.conditions import ConditionFacts, check_condition
from datakeys.keyservice.authz.policy_document import Statement, parse_policy
from datakeys.keyservice.authz.realm import Realm


class Verdict(Enum):
    """What a key policy says."""

    DENY = "explicit deny"
    PRINCIPAL = "allows the principal itself"
    ACCOUNT = "allows the account"
    NOTHING = "nothing"


@dataclass(slots=True)
class PolicyQuestion:
    """May this caller do this to the key?

    Attributes:
        name: The caller's user name; empty for the root of an account.
        account: The caller's account.
        operation: Name of the API operation; ReEncrypt is ReEncryptFrom and ReEncryptTo.
        key_arn: ARN of the policy's key.
        facts: For the conditions.
    """

    name: str
    account: str
    operation: str
    key_arn: str
    facts: ConditionFacts


def evaluate_policy(text: str, realm: Realm, question: PolicyQuestion) -> Verdict:
    """Return what a key policy's text says."""
    try:
        statements = parse_policy(text, realm)
    except (MalformedPolicyDocumentError, LimitExceededError):
        return Verdict.DENY
    return evaluate(statements, question)


def evaluate(statements: Sequence[Statement], question: PolicyQuestion) -> Verdict:
    """Return what statements say; an explicit deny wins, then an allow of the principal itself."""
    found = {_apply(statement, question) for statement in statements}
    for verdict in (Verdict.DENY, Verdict.PRINCIPAL, Verdict.ACCOUNT):
        if verdict in found:
            return verdict
    return Verdict.NOTHING


def _apply(statement: Statement, question: PolicyQuestion) -> Verdict:
    named = _find_principal(statement, question)
    if named is Verdict.NOTHING or not _covers(statement, question):
        return Verdict.NOTHING
    answers = [check_condition(condition, question.facts) for condition in statement.conditions]
    if False in answers or (statement.allows and None in answers):
        return Verdict.NOTHING
    return named if statement.allows else Verdict.DENY


def _covers(statement: Statement, question: PolicyQuestion) -> bool:
    actions, resources = statement.actions, statement.resources
    if actions is None or resources is None:
        return False
    question.facts.work += actions.work + resources.work
    if question.facts.work > MAX_WORK:
        return not statement.allows
    return actions.match(f"kms:{question.operation}".lower()) and resources.match(question.key_arn)


def _find_principal(statement: Statement, question: PolicyQuestion) -> Verdict:
    """Return how a statement names the caller.

    NotPrincipal exempts only whom it names itself: the account of a principal doesn't exempt the principal.
    """
    principals = statement.principals
    itself = principals.everyone or (bool(question.name) and question.name in principals.names)
    account = question.account in principals.accounts
    if statement.principals_negated:
        exempt = itself or (account and not question.name)
        return Verdict.NOTHING if exempt else Verdict.PRINCIPAL
    if itself:
        return Verdict.PRINCIPAL
    return Verdict.ACCOUNT if account else Verdict.NOTHING
