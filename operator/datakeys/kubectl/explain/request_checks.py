"""Is the encrypted data key there, and may this pod decrypt it? Zone: no I/O; never a ciphertext."""

from collections.abc import Mapping
from typing import Final

from datakeys.contract.crd.kmsgrant import GrantOperation
from datakeys.contract.identity import SECRET_TYPE, TRUST_BUNDLE_CONFIG_MAP, TRUST_BUNDLE_KEY
from datakeys.contract.key_types import KeyState
from datakeys.kubectl.answers import Answer, Gap, Json, UserError, list_items, name_of, namespace_of
from datakeys.kubectl.cluster import SecretRow
from datakeys.kubectl.explain.checks import Check, failed, passed, unseen, waits
from datakeys.kubectl.explain.facts import RequestFacts
from datakeys.kubectl.key_names import ALIAS_PREFIX, find_request_key, status_of, wanted_key
from datakeys.kubectl.requests import account_of, list_secret_names, ready_condition
from datakeys.kubectl.who_can.key_policy import find_denial, parse_policy

_KEY_STEPS: Final = {
    KeyState.DISABLED: "enable it: set spec.enabled: true in KmsKey {name}",
    KeyState.PENDING_DELETION: "apply its KmsKey again before {deletion}: that cancels the deletion",
    KeyState.PENDING_IMPORT: "import its key material",
}


def check_requests(facts: RequestFacts, namespace: str, account: str | None) -> list[Check]:
    """Check each DataKeyRequest with its key and its Secrets.

    Args:
        facts: What surrounds them.
        namespace: Theirs.
        account: The ServiceAccount that wants to decrypt; None if nobody does.
    """
    checks = []
    for name, answer in facts.requests.items():
        if isinstance(answer, Gap):
            checks.append(_check_absent(name, namespace, answer))
            continue
        checks += [_check_ready(answer), _check_key(answer, facts)]
        checks += [_check_secret(secret, answer, facts.secrets) for secret in list_secret_names(answer)]
        if account is not None:
            checks += [_check_account(answer, account), *_check_policy(answer, account, facts)]
    return checks


def check_trust_bundle(answer: Answer) -> Check:
    """Check the ConfigMap with the key service's certificates, which the sidecar needs."""
    if isinstance(answer, Gap):
        if not answer.is_missing:
            return unseen("trust-bundle", f"ConfigMap {TRUST_BUNDLE_CONFIG_MAP}", answer)
        return failed(
            "trust-bundle",
            f"ConfigMap {TRUST_BUNDLE_CONFIG_MAP} is missing here",
            "it comes with the first DataKeyRequest or KmsKey of the namespace; see the controller's logs",
        )
    if not (answer.get("data") or {}).get(TRUST_BUNDLE_KEY):
        step = "delete it: the controller makes it anew"
        return failed("trust-bundle", f"ConfigMap {TRUST_BUNDLE_CONFIG_MAP} has no {TRUST_BUNDLE_KEY}", step)
    return passed("trust-bundle", f"ConfigMap {TRUST_BUNDLE_CONFIG_MAP} is there")


def _check_absent(name: str, namespace: str, gap: Gap) -> Check:
    if not gap.is_missing:
        return unseen("request", f"DataKeyRequest {name}", gap)
    return failed(
        "request",
        f"there is no DataKeyRequest {name} in namespace {namespace}",
        f"create it, correct the annotation, or see `kubectl kms requests -n {namespace}`",
    )


def _check_ready(request: Json) -> Check:
    name, ready = name_of(request), ready_condition(request)
    if (request.get("spec") or {}).get("dryRun"):
        step = "make another DataKeyRequest, without spec.dryRun"
        return failed("request", f"DataKeyRequest {name} is a dry run: it gets no data key", step)
    if ready.is_true:
        return passed("request", f"DataKeyRequest {name} has its data key")
    if ready.status == "Unknown":
        step = "if this stays: look at Deployment datakeys-controller in the operator's namespace"
        return waits("request", f"DataKeyRequest {name}: {ready.reason or ready.message}", step)
    text = f"DataKeyRequest {name} isn't ready: {ready.reason}: {ready.message}"
    return failed("request", text, f"kubectl describe datakeyrequest {name} -n {namespace_of(request)}")


def _check_key(request: Json, facts: RequestFacts) -> Check:
    wanted, name = wanted_key(request), name_of(request)
    if isinstance(facts.keys, Gap):
        return unseen("key", f"KmsKey {wanted}", facts.keys)
    key = find_request_key(request, facts.keys, list_items(facts.aliases))
    if key is None:
        given = status_of(request).get("keyId")
        if given:
            # Not every key has a KmsKey: some are made by API calls, and others are in another namespace.
            return waits(
                "key",
                f"the data key is under {given}, which has no KmsKey in this namespace",
                "if its KmsKey was deleted: apply it again, which cancels the deletion of the key",
            )
        kind = "KmsAlias" if wanted.startswith(ALIAS_PREFIX) else "KmsKey"
        return failed(
            "key",
            f"DataKeyRequest {name} names {wanted}, and no {kind} here has that name",
            f"create the {kind}; or correct the name, and delete the request if it was made for a workload",
        )
    status = status_of(key)
    state = status.get("keyState")
    if state == KeyState.ENABLED:
        return passed("key", f"KmsKey {name_of(key)} is Enabled")
    if state is None:
        ready = ready_condition(key)
        step = f"kubectl describe kmskey {name_of(key)} -n {namespace_of(key)}"
        if status.get("arn"):
            return failed("key", f"KmsKey {name_of(key)} has lost its key: {ready.message}", step)
        return failed("key", f"KmsKey {name_of(key)} isn't made yet: {ready.reason or ready.message}", step)
    step = _KEY_STEPS.get(state, "kubectl describe kmskey {name}")
    return failed(
        "key",
        f"KmsKey {name_of(key)} is {state}: nobody can decrypt under it",
        step.format(name=name_of(key), deletion=status.get("deletionDate", "")),
    )


def _check_secret(name: str, request: Json, secrets: Mapping[str, SecretRow | None] | Gap) -> Check:
    if isinstance(secrets, Gap):
        return unseen("secret", f"Secret {name}", secrets)
    row = secrets.get(name)
    if row is None:
        step = f"it comes when DataKeyRequest {name_of(request)} is ready; a deleted one comes back by itself"
        return failed("secret", f"there is no Secret {name}", step)
    if row.type != SECRET_TYPE or row.request != name_of(request):
        step = "delete that Secret, or give the DataKeyRequest another spec.secretName"
        return failed("secret", f"Secret {name} isn't the one of DataKeyRequest {name_of(request)}", step)
    return passed("secret", f"Secret {name} is there")


def _check_account(request: Json, account: str) -> Check:
    wanted = account_of(request)
    if wanted == account:
        return passed("service-account", f"the pod runs as ServiceAccount {account}, whose data key it is")
    # No grant helps: the data key's ciphertext is bound to the account (docs/authorization.md).
    return failed(
        "service-account",
        f"DataKeyRequest {name_of(request)} is for ServiceAccount {wanted}, but the pod runs as {account}",
        f"set serviceAccountName: {wanted} in the workload, or make a DataKeyRequest for {account}",
    )


def _check_policy(request: Json, account: str, facts: RequestFacts) -> list[Check]:
    """Return a check if the key's policy denies the account what its data key would allow it."""
    key = find_request_key(request, list_items(facts.keys), list_items(facts.aliases))
    try:
        statements = parse_policy(key, (GrantOperation.DECRYPT,)) if key else None
    except UserError as error:
        return [waits("key-policy", error.message)]
    denial = find_denial(statements, "ServiceAccount", namespace_of(request), account)
    if key is None or denial is None:
        return []
    text = f"statement {denial.label} of the policy of KmsKey {name_of(key)} denies Decrypt to {account}"
    if denial.conditional:
        return [waits("key-policy", f"{text} under conditions", "read the statement")]
    return [failed("key-policy", text, "change spec.policy of the KmsKey, or use another key")]
