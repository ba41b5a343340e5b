"""Key policies: their form, whom they name, their conditions, and who wins."""

import json
from typing import Any

import pytest

from datakeys.contract.errors import LimitExceededError, MalformedPolicyDocumentError
from datakeys.keyservice.authz.conditions import Condition, ConditionFacts, check_condition
from datakeys.keyservice.authz.grant_rules import GrantWish
from datakeys.keyservice.authz.key_policy import PolicyQuestion, Verdict, evaluate_policy
from datakeys.keyservice.authz.policy_document import build_default_policy, parse_policy
from datakeys.keyservice.authz.realm import Realm

CLUSTER, AWS = Realm("cluster-1"), Realm("us-east-1", "aws")
APP = "system:serviceaccount:team-a:app"
KEY = "arn:k8s:kms:cluster-1:team-a:key/00000000-0000-0000-0000-000000000000"
WISH = GrantWish(APP, frozenset({"Decrypt", "Encrypt"}), context_subset={"a": "1"})


def statement(effect: str = "Allow", **elements: Any) -> dict[str, Any]:
    basis = {"Effect": effect, "Principal": {"Kubernetes": APP}, "Action": "kms:*", "Resource": "*"}
    return {name: value for name, value in {**basis, **elements}.items() if value is not None}


def text(*statements: Any) -> str:
    return json.dumps({"Version": "2012-10-17", "Statement": list(statements)})


def judge(*statements: Any, name: str = APP, account: str = "team-a", operation: str = "Decrypt") -> Verdict:
    facts = ConditionFacts(operation, account, context={"Tier": "1"})
    return evaluate_policy(text(*statements), CLUSTER, PolicyQuestion(name, account, operation, KEY, facts))


@pytest.mark.parametrize(
    ("raw", "where"),
    [
        ("nonsense", "JSON"),
        ('{"Statement": NaN}', "JSON"),
        ("[" * 20_000, "JSON"),
        ('{"Id": "a", "Id": "b", "Statement": []}', "twice"),
        ("[]", "object"),
        ("{}", "Statement"),
        ('{"Statement": []}', "Statement"),
        ('{"Statement": [1]}', "Statement[0]"),
        ('{"Version": "2020-01-01", "Statement": []}', "Version"),
        ('{"Id": 1, "Statement": []}', "Id"),
        ('{"Extra": 1, "Statement": []}', "Extra"),
        (text(statement(), statement(Effect="Maybe")), "Statement[1].Effect"),
        (text(statement(Effect=None)), "Statement[0].Effect"),
        (text(statement(Principal=None)), "Statement[0].Principal"),
        (text(statement(Principal={})), "Statement[0].Principal"),
        (text(statement(Principal="team-a")), "Statement[0].Principal"),
        (text(statement(Principal={"Kubernetes": []})), "Statement[0].Principal"),
        (text(statement(Principal={"Kubernetes": [1]})), "Statement[0].Principal"),
        (text(statement(Principal={"Service": "x.example.com"})), "Statement[0].Principal"),
        (text(statement(Principal={"Nobody": "x"})), "Statement[0].Principal"),
        (text(statement(Principal={"AWS": "arn:aws:iam::123456789012:root"})), "Statement[0].Principal"),
        (text(statement(Principal={"AWS": "system:serviceaccount:*:app"})), "Statement[0].Principal"),
        (text(statement(NotPrincipal="*")), "Statement[0].Principal"),
        (text(statement(Principal=None, NotPrincipal="*")), "Statement[0].NotPrincipal"),
        (text(statement(Action=[])), "Statement[0].Action"),
        (text(statement(Action="Decrypt")), "Statement[0].Action"),
        (text(statement(NotAction="kms:*")), "Statement[0].Action"),
        (text(statement(Resource=7)), "Statement[0].Resource"),
        (text(statement(Resource="${x}")), "Statement[0].Resource"),
        (text(statement(Sid=1)), "Statement[0].Sid"),
        (text(statement(Condition=[])), "Statement[0].Condition"),
        (text(statement(Condition={"Bool": 1})), "Statement[0].Condition"),
        (text(statement(Condition={"Bool": {"k": []}})), "Statement[0].Condition.Bool.k"),
        (text(statement(Condition={"Bool": {"k": {}}})), "Statement[0].Condition.Bool.k"),
        (text(statement(Extra=1)), "Extra"),
    ],
)
def test_malformed(raw: str, where: str) -> None:
    """Each fault is refused by a message that names the statement and the element."""
    with pytest.raises(MalformedPolicyDocumentError) as caught:
        parse_policy(raw, CLUSTER)
    assert where in caught.value.message


def test_length_is_counted_in_bytes() -> None:
    """32,768 bytes are the limit; characters beyond ASCII count twice."""
    shell = text(statement(Sid=""))
    room = 32_768 - len(shell)
    assert parse_policy(shell.replace('"Sid": ""', f'"Sid": "{"x" * room}"'), CLUSTER)
    for sid in ("x" * (room + 1), "\u00e4" * (room // 2 + 1)):
        with pytest.raises(LimitExceededError):
            parse_policy(shell.replace('"Sid": ""', f'"Sid": "{sid}"'), CLUSTER)


def test_one_statement_needs_no_list() -> None:
    """As in IAM, a single statement may stand alone."""
    assert len(parse_policy(json.dumps({"Statement": statement()}), CLUSTER)) == 1


@pytest.mark.parametrize(
    ("principal", "by_app", "by_other", "by_foreigner", "by_root"),
    [
        ("*", "PRINCIPAL", "PRINCIPAL", "PRINCIPAL", "PRINCIPAL"),
        ({"AWS": "*"}, "PRINCIPAL", "PRINCIPAL", "PRINCIPAL", "PRINCIPAL"),
        ({"Kubernetes": "team-a"}, "ACCOUNT", "ACCOUNT", "NOTHING", "ACCOUNT"),
        ({"AWS": ["arn:k8s:iam::team-a:root"]}, "ACCOUNT", "ACCOUNT", "NOTHING", "ACCOUNT"),
        ({"Kubernetes": APP}, "PRINCIPAL", "NOTHING", "NOTHING", "NOTHING"),
        ({"AWS": "arn:k8s:iam::team-a:serviceaccount/app"}, "PRINCIPAL", "NOTHING", "NOTHING", "NOTHING"),
        ({"Kubernetes": [APP, "team-b"]}, "PRINCIPAL", "NOTHING", "ACCOUNT", "NOTHING"),
        ({"Kubernetes": "jane@example.com"}, "NOTHING", "NOTHING", "NOTHING", "NOTHING"),
    ],
)
def test_principals(principal: Any, by_app: str, by_other: str, by_foreigner: str, by_root: str) -> None:
    """Everybody and a named principal are allowed themselves; an account decides for its own."""
    asked = [
        (APP, "team-a"),
        (APP + "2", "team-a"),
        ("system:serviceaccount:team-b:x", "team-b"),
        ("", "team-a"),
    ]
    found = [judge(statement(Principal=principal), name=name, account=of).name for name, of in asked]
    assert found == [by_app, by_other, by_foreigner, by_root]
    denied = [judge(statement("Deny", Principal=principal), name=name, account=of).name for name, of in asked]
    assert denied == ["NOTHING" if verdict == "NOTHING" else "DENY" for verdict in found]


@pytest.mark.parametrize(
    ("principal", "fine"),
    [
        ("123456789012", True),
        ("arn:aws:iam::123456789012:root", True),
        ("arn:aws:iam::123456789012:role/path/x", True),
        ("arn:aws:iam::12:root", False),
        ("team-a", False),
        ("arn:aws:iam::123456789012:role/*", False),
    ],
)
def test_principals_of_the_local_mode(principal: str, *, fine: bool) -> None:
    """The local mode takes what AWS takes, and services, which are nobody there."""
    raw = text(statement(Principal={"AWS": principal, "Service": "s3.amazonaws.com"}))
    if fine:
        assert parse_policy(raw, AWS)
    else:
        with pytest.raises(MalformedPolicyDocumentError, match="principals are invalid"):
            parse_policy(raw, AWS)


def test_not_principal_exempts_only_whom_it_names() -> None:
    """The account of a principal doesn't exempt the principal."""
    allow = statement(Principal="*")
    deny = statement("Deny", Principal=None, NotPrincipal={"Kubernetes": [APP, "team-b"]})
    assert judge(allow, deny) is Verdict.PRINCIPAL
    assert judge(allow, deny, name=APP + "2") is Verdict.DENY
    assert judge(allow, deny, name="system:serviceaccount:team-b:x", account="team-b") is Verdict.DENY
    assert judge(allow, deny, name="", account="team-b") is Verdict.PRINCIPAL


@pytest.mark.parametrize(
    ("elements", "applies"),
    [
        ({"Action": "kms:Decrypt"}, True),
        ({"Action": "KMS:decrypt"}, True),
        ({"Action": ["kms:Encrypt", "kms:Decr?pt"]}, True),
        ({"Action": "*"}, True),
        ({"Action": "kms:Encrypt"}, False),
        ({"Action": "kms:Decrypt?"}, False),
        ({"Action": "s3:*"}, False),
        ({"Action": None}, False),
        ({"Action": None, "NotAction": "kms:Encrypt"}, True),
        ({"Action": None, "NotAction": "kms:De*"}, False),
        ({"Resource": KEY}, True),
        ({"Resource": ["arn:*", "x"]}, True),
        ({"Resource": KEY[:-1] + "1"}, False),
        ({"Resource": None}, False),
        ({"Resource": None, "NotResource": KEY}, False),
        ({"Resource": None, "NotResource": "arn:other"}, True),
    ],
)
def test_actions_and_resources(elements: dict[str, Any], *, applies: bool) -> None:
    """What a statement covers; without Action or Resource it has no effect, not even to deny."""
    assert judge(statement(**elements)) is (Verdict.PRINCIPAL if applies else Verdict.NOTHING)
    assert judge(statement("Deny", **elements)) is (Verdict.DENY if applies else Verdict.NOTHING)


def test_data_key_actions_do_not_imply_each_other() -> None:
    """kms:GenerateDataKey isn't kms:GenerateDataKeyWithoutPlaintext."""
    only = statement(Action="kms:GenerateDataKey")
    assert judge(only, operation="GenerateDataKey") is Verdict.PRINCIPAL
    assert judge(only, operation="GenerateDataKeyWithoutPlaintext") is Verdict.NOTHING


@pytest.mark.parametrize("order", [1, -1])
def test_who_wins(order: int) -> None:
    """Explicit deny, then the principal itself, then its account, in any order of statements."""
    of_account, of_app = statement(Principal={"Kubernetes": "team-a"}), statement()
    deny = statement("Deny", Action="kms:Dec*")
    assert judge(*[of_account, of_app][::order]) is Verdict.PRINCIPAL
    assert judge(*[of_account, of_app, deny][::order]) is Verdict.DENY
    assert judge(*[of_account, of_app, deny][::order], operation="Encrypt") is Verdict.PRINCIPAL
    assert judge(of_account) is Verdict.ACCOUNT


def test_unreadable_policy_denies() -> None:
    """A stored policy that can't be read any more lets nobody in."""
    question = PolicyQuestion(APP, "team-a", "Decrypt", KEY, ConditionFacts("Decrypt", "team-a"))
    assert evaluate_policy("nonsense", CLUSTER, question) is Verdict.DENY


@pytest.mark.parametrize(("realm", "account"), [(CLUSTER, "team-a"), (AWS, "123456789012")])
def test_default_policy(realm: Realm, account: str) -> None:
    """It parses in its realm, and allows the account and nobody else."""
    raw = build_default_policy(realm.root_arn(account), is_cluster=realm.is_cluster)
    for name, of, verdict in (("x", account, Verdict.ACCOUNT), ("x", "other", Verdict.NOTHING)):
        question = PolicyQuestion(name, of, "Decrypt", KEY, ConditionFacts("Decrypt", of))
        assert evaluate_policy(raw, realm, question) is verdict


FACTS = ConditionFacts(
    "CreateGrant",
    "team-a",
    key_spec="SYMMETRIC_DEFAULT",
    key_usage="ENCRYPT_DECRYPT",
    key_origin="AWS_KMS",
    context={"Tier": "prod", "b": "", "x": "1", "X": "2"},
    request_alias="alias/app",
    resource_aliases=lambda: ["alias/app", "alias/old"],
    wish=WISH,
)
TIER, KEYS, ALIASES = "kms:EncryptionContext:tier", "kms:EncryptionContextKeys", "kms:ResourceAliases"


@pytest.mark.parametrize(
    ("operator", "key", "values", "met"),
    [
        ("StringEquals", TIER, ("prod",), True),
        ("StringEquals", TIER, ("dev", "prod"), True),
        ("StringEquals", TIER, ("Prod",), False),
        ("StringEquals", "KMS:encryptioncontext:TIER", ("prod",), True),
        ("StringEquals", "kms:EncryptionContext:none", ("prod",), False),
        ("StringEquals", "kms:EncryptionContext:x", ("1",), None),
        ("ForAnyValue:StringEquals", "kms:EncryptionContext:x", ("1",), True),
        ("ForAllValues:StringEquals", "kms:EncryptionContext:x", ("1",), False),
        ("StringNotEquals", TIER, ("dev", "test"), True),
        ("StringNotEquals", TIER, ("dev", "prod"), False),
        ("StringNotEquals", "kms:EncryptionContext:none", ("prod",), True),
        ("StringEqualsIgnoreCase", TIER, ("PROD",), True),
        ("StringNotEqualsIgnoreCase", TIER, ("PROD",), False),
        ("StringLike", TIER, ("p*d",), True),
        ("StringLike", TIER, ("p?d",), False),
        ("StringLike", TIER, ("*",), True),
        ("StringLike", TIER, (".rod",), False),
        ("StringNotLike", TIER, ("p*",), False),
        ("StringEquals", "kms:EncryptionContext:b", ("",), True),
        ("StringEqualsIfExists", "kms:EncryptionContext:none", ("x",), True),
        ("StringEqualsIfExists", TIER, ("x",), False),
        ("Null", TIER, ("true",), False),
        ("Null", TIER, ("false",), True),
        ("Null", "kms:EncryptionContext:none", ("true",), True),
        ("Null", TIER, ("perhaps",), None),
        ("NullIfExists", TIER, ("true",), None),
        ("ForAllValues:StringEquals", KEYS, ("Tier", "b", "x", "X"), True),
        ("ForAllValues:StringEquals", KEYS, ("Tier", "b", "x"), False),
        ("ForAnyValue:StringEquals", KEYS, ("b",), True),
        ("ForAnyValue:StringEquals", KEYS, ("c",), False),
        ("ForAnyValue:StringNotEquals", KEYS, ("b",), True),
        ("ForAllValues:StringNotEquals", KEYS, ("b",), False),
        ("StringEquals", KEYS, ("b",), None),
        ("StringEquals", "kms:CallerAccount", ("team-a",), True),
        ("StringEquals", "kms:KeySpec", ("SYMMETRIC_DEFAULT",), True),
        ("StringEquals", "kms:KeyUsage", ("SIGN_VERIFY",), False),
        ("StringEquals", "kms:KeyOrigin", ("AWS_KMS",), True),
        ("StringEquals", "kms:ViaService", ("s3.us-east-1.amazonaws.com",), False),
        ("StringNotEquals", "kms:ViaService", ("s3.us-east-1.amazonaws.com",), True),
        ("StringEquals", "kms:RequestAlias", ("alias/app",), True),
        ("ForAnyValue:StringLike", ALIASES, ("alias/o*",), True),
        ("ForAllValues:StringLike", ALIASES, ("alias/o*",), False),
        ("ForAllValues:StringEquals", "kms:GrantOperations", ("Decrypt", "Encrypt", "Sign"), True),
        ("ForAllValues:StringEquals", "kms:GrantOperations", ("Decrypt",), False),
        ("StringEquals", "kms:GranteePrincipal", (APP,), True),
        ("StringEquals", "kms:GrantConstraintType", ("EncryptionContextSubset",), True),
        ("Bool", "kms:GrantIsForAWSResource", ("false",), True),
        ("Bool", "kms:GrantIsForAWSResource", ("TRUE",), False),
        ("StringEquals", "kms:Unheard", ("x",), None),
        ("StringNotEquals", "kms:Unheard", ("x",), None),
        ("StringEqualsIfExists", "aws:SourceIp", ("x",), None),
        ("Null", "kms:Unheard", ("true",), None),
        ("IpAddress", TIER, ("10.0.0.0/8",), None),
        ("ForMostValues:StringEquals", TIER, ("prod",), None),
        ("stringequals", TIER, ("prod",), None),
        ("StringEquals", TIER, ("${aws:username}",), None),
    ],
)
def test_conditions(operator: str, key: str, values: tuple[str, ...], met: bool | None) -> None:
    """Each operator and each key; what this service can't judge is unknown."""
    assert check_condition(Condition(operator, key, values), FACTS) is met


@pytest.mark.parametrize(
    ("operator", "met"),
    [("ArnLike", True), ("ArnEquals", True), ("ArnNotLike", False), ("ArnNotEquals", False)],
)
def test_arn_operators(operator: str, *, met: bool) -> None:
    """ARNs compare piece by piece; a wildcard stays within its piece."""
    wish = GrantWish("arn:aws:iam::123456789012:role/x", frozenset())
    facts = ConditionFacts("CreateGrant", "1", wish=wish)
    key = "kms:GranteePrincipal"
    assert check_condition(Condition(operator, key, ("arn:aws:iam::*:role/?",)), facts) is met
    for other in ("arn:*", "arn:aws:*:role/x", "x"):
        assert check_condition(Condition(operator, key, (other,)), facts) is not met


@pytest.mark.parametrize("operator", ["ForAllValues:StringEquals", "ForAnyValue:StringNotEquals"])
def test_set_operators_without_values(operator: str) -> None:
    """Of no values all meet a condition, and none does."""
    facts = ConditionFacts("Decrypt", "team-a")
    assert check_condition(Condition(operator, KEYS, ("x",)), facts) is operator.startswith("ForAll")


def test_conditions_are_joined_by_and() -> None:
    """All must be met; an unknown one keeps an Allow from applying and doesn't keep a Deny from it."""
    good = {"StringEquals": {"kms:EncryptionContext:tier": "1"}}
    bad = {"StringEquals": {"kms:EncryptionContext:tier": "2"}}
    unknown = {"Weird": {"x": "y"}}
    for condition, allowed, denied in (
        (good, True, True),
        (bad, False, False),
        ({**good, **unknown}, False, True),
        ({**bad, **unknown}, False, False),
        (unknown, False, True),
        ({"StringEquals": {"kms:CallerAccount": "team-a", TIER: "2"}}, False, False),
    ):
        assert (judge(statement(Condition=condition)) is Verdict.PRINCIPAL) is allowed
        assert (judge(statement("Deny", Condition=condition)) is Verdict.DENY) is denied


def test_a_decision_takes_a_bounded_number_of_comparisons() -> None:
    """Of a hostile policy and a hostile context together: beyond it no Allow applies, and every Deny does."""
    context = {f"{number:x}": "" for number in range(2500)}

    def decide(*statements: Any) -> Verdict:
        question = PolicyQuestion(
            APP, "team-a", "Decrypt", KEY, ConditionFacts("Decrypt", "team-a", context=context)
        )
        return evaluate_policy(text(*statements), CLUSTER, question)

    few, many = ({"ForAnyValue:StringLike": {KEYS: ["*z*"] * count}} for count in (1, 2))
    assert decide(statement("Deny", Condition=few)) is Verdict.NOTHING
    assert decide(statement("Deny", Condition=many)) is Verdict.DENY
    assert (
        decide(statement("Allow", Condition={"ForAnyValue:StringLike": {KEYS: ["*1*"] * 2}}))
        is Verdict.NOTHING
    )
    # Spread over statements it is as much.
    assert decide(*[statement("Deny", Condition=few)] * 2) is Verdict.DENY


@pytest.mark.parametrize("element", ["Resource", "Action"])
def test_comparisons_with_actions_and_resources_count_too(element: str) -> None:
    pattern, everything = {"Resource": ("*q?q*", "*"), "Action": ("kms:*q?q*", "kms:*")}[element]

    def judge_patterns(effect: str, *patterns: str) -> Verdict:
        elements: dict[str, Any] = {element: patterns}
        return judge(statement(effect, **elements))

    assert judge_patterns("Deny", *[pattern] * 60) is Verdict.NOTHING
    assert judge_patterns("Deny", *[pattern] * 70) is Verdict.DENY
    assert judge_patterns("Allow", *[pattern] * 60, everything) is Verdict.PRINCIPAL
    assert judge_patterns("Allow", *[pattern] * 70, everything) is Verdict.NOTHING


@pytest.mark.parametrize("pattern", ["*a" * 8000 + "b", "*" + "a" * 4000 + "b*", "*" + "?a" * 2000 + "b*"])
def test_wildcards_do_not_hang(pattern: str) -> None:
    """A hostile pattern takes no time that grows with the number of its stars, or as a product of lengths."""
    facts = ConditionFacts("Decrypt", "team-a", context={"tier": "a" * 8000})
    assert check_condition(Condition("StringLike", TIER, (pattern,)), facts) is False
