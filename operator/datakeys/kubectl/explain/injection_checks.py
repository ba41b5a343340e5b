"""Was the pod injected, and if not, why not? Zone: no I/O."""

from typing import Any, Final

from datakeys.contract.identity import ANNOTATION_KEY, ANNOTATION_REQUESTS, LABEL_INJECT
from datakeys.kubectl.answers import Answer, Gap, Json
from datakeys.kubectl.explain.checks import Check, check_spelling, failed, passed, unseen
from datakeys.kubectl.explain.facts import PodFacts
from datakeys.kubectl.explain.pod_wishes import is_injected, read_wishes

_ON: Final = '"true"'
_ANEW: Final = "delete the pod, so that its owner makes it anew: a pod that runs can't be injected"


def check_injection(facts: PodFacts) -> list[Check]:
    """Check label, annotations, and whether the webhook has been at the pod; if not, look for the cause."""
    wishes = read_wishes(facts.pod)
    misspelt = check_spelling(facts.pod["metadata"].get("annotations") or ())
    if wishes.label is None and not wishes.asks:
        return [
            *misspelt,
            failed(
                "annotations",
                f"the pod asks for no data key: it has neither {ANNOTATION_KEY} nor {ANNOTATION_REQUESTS}",
                f"annotate its workload with {ANNOTATION_KEY}: NAME-OF-A-KEY",
            ),
        ]
    if wishes.fault:
        return [
            failed("annotations", wishes.fault, "correct the annotation on the workload, and apply it again")
        ]
    if not wishes.asks:
        return [
            failed(
                "annotations",
                f"the pod has the label {LABEL_INJECT} and no annotation that names a data key",
                f"annotate its workload with {ANNOTATION_KEY} or {ANNOTATION_REQUESTS}",
            )
        ]
    checks = [
        *misspelt,
        _check_label(wishes.label, injected=is_injected(facts.pod)),
        passed("annotations", _tell_wishes(facts.pod)),
    ]
    if is_injected(facts.pod):
        return [*checks, passed("injected", "the webhook has added the sidecar")]
    return [
        *checks,
        failed("injected", "the pod was created without the sidecar", _ANEW),
        *check_webhook(facts.webhook, facts.namespace, facts.pod["metadata"].get("creationTimestamp", "")),
    ]


def check_webhook(webhook: Answer, namespace: Answer, created: str) -> list[Check]:
    """Check whether the API server sends pods of a namespace to the webhook.

    Args:
        webhook: The MutatingWebhookConfiguration ``datakeys-webhook``.
        namespace: The Namespace.
        created: When the pod was created, RFC 3339.
    """
    if isinstance(webhook, Gap):
        if not webhook.is_missing:
            return [unseen("webhook", "the webhook's configuration", webhook)]
        step = "install the chart datakey-operator, or ask who runs the cluster"
        return [failed("webhook", "the cluster has no webhook that injects", step)]
    entry: Json = next(
        (one for one in webhook.get("webhooks") or () if one["name"].startswith("inject.")), {}
    )
    checks = [_check_policy(webhook, entry, created)]
    if isinstance(namespace, Gap):
        return [*checks, unseen("namespace", "the namespace's labels", namespace)]
    labels = namespace["metadata"].get("labels") or {}
    if not matches(entry.get("namespaceSelector") or {}, labels):
        step = "run the workload in a namespace that isn't in the chart's excludedNamespaces"
        return [*checks, failed("namespace", "pods of this namespace are never sent to the webhook", step)]
    return [*checks, passed("namespace", "pods of this namespace are sent to the webhook")]


def matches(selector: Json, labels: Json) -> bool:
    """Return whether a label selector selects. Source: Kubernetes API, LabelSelector."""
    wanted = (selector.get("matchLabels") or {}).items()
    return all(labels.get(key) == value for key, value in wanted) and all(
        _fulfils(one, labels) for one in selector.get("matchExpressions") or ()
    )


def _fulfils(expression: Json, labels: Json) -> bool:
    key, values = expression["key"], expression.get("values") or ()
    present: dict[str, Any] = {
        "In": labels.get(key) in values,
        "NotIn": labels.get(key) not in values,
        "Exists": key in labels,
        "DoesNotExist": key not in labels,
    }
    return bool(present.get(expression["operator"], False))


def _check_policy(webhook: Json, entry: Json, created: str) -> Check:
    if not (entry.get("clientConfig") or {}).get("caBundle"):
        return failed(
            "webhook",
            "the webhook's configuration has no caBundle yet, so the API server can't call it",
            "look at the logs of Deployment datakeys-webhook in the operator's namespace",
        )
    since = webhook["metadata"].get("creationTimestamp", "")
    if created and since > created:
        return failed("webhook", f"the webhook is there since {since}, the pod since {created}", _ANEW)
    if entry.get("failurePolicy") == "Ignore":
        return failed(
            "webhook",
            "failurePolicy is Ignore: pods start without their keys while the webhook is down",
            "set webhook.failurePolicy: Fail in the chart's values, and delete the pod",
        )
    return passed("webhook", "the webhook is configured: a new pod would be injected")


def _check_label(label: str | None, *, injected: bool) -> Check:
    if label == "true" or injected:
        return passed("label", f"the pod has the label {LABEL_INJECT}")
    if label is not None:
        step = f"remove the label from the pod template, or set it to {_ON}"
        return failed("label", f"the pod has the label {LABEL_INJECT}: {label}, which says no", step)
    # The webhook sets the label itself, on pods and on templates.
    return failed(
        "label",
        f"the pod lacks the label {LABEL_INJECT}: the webhook hasn't seen it or its workload",
        "apply the workload again, once the webhook is there",
    )


def _tell_wishes(pod: Json) -> str:
    wishes = read_wishes(pod)
    parts = [f"DataKeyRequest {', '.join(wishes.requests)}"] if wishes.requests else []
    parts += ["the KMS endpoint"] if wishes.endpoint else []
    return f"the pod asks for {' and '.join(parts)}"
