"""From facts to the whole list of checks. Zone: no I/O."""

from collections.abc import Sequence
from dataclasses import dataclass

from datakeys.kubectl.answers import Json, namespace_of
from datakeys.kubectl.explain.checks import Check, Verdict, find_failure
from datakeys.kubectl.explain.facts import PodFacts, RequestFacts
from datakeys.kubectl.explain.injection_checks import check_injection
from datakeys.kubectl.explain.pod_wishes import account_of_pod, is_injected
from datakeys.kubectl.explain.request_checks import check_requests, check_trust_bundle
from datakeys.kubectl.explain.sidecar_checks import check_app, check_sidecar
from datakeys.kubectl.explain.told_checks import check_told


@dataclass(frozen=True, slots=True)
class Explanation:
    """What was found about one object, ``kind/name``."""

    subject: str
    namespace: str
    checks: tuple[Check, ...]

    @property
    def conclusion(self) -> tuple[Verdict, str]:
        """Return the whole in one word and one sentence."""
        failure = find_failure(self.checks)
        if failure is not None:
            return Verdict.FAIL, failure.detail
        verdicts = {check.verdict for check in self.checks}
        if any(check.name == "delivered" and check.verdict is Verdict.PASS for check in self.checks):
            return Verdict.PASS, "the pod has what it asked for"
        if Verdict.WAIT in verdicts:
            return Verdict.WAIT, "nothing is wrong, but it isn't done yet"
        if Verdict.UNSEEN in verdicts:
            return Verdict.UNSEEN, "nothing that you may see is wrong"
        return Verdict.PASS, "nothing is wrong"

    def to_json(self) -> Json:
        """Return what machines read."""
        verdict, text = self.conclusion
        return {
            "object": self.subject,
            "namespace": self.namespace,
            "verdict": verdict,
            "conclusion": text,
            "checks": [check.to_json() for check in self.checks],
        }


def decide_pod(facts: PodFacts) -> list[Check]:
    """Return the checks of a pod, in the order in which one thing leads to the next."""
    checks = check_injection(facts)
    namespace = namespace_of(facts.pod)
    checks += check_requests(facts.around, namespace, account_of_pod(facts.pod))
    checks += check_told(facts.warnings)
    if not is_injected(facts.pod):
        return checks
    return [
        *checks,
        check_trust_bundle(facts.around.trust_bundle),
        *check_sidecar(facts),
        *check_app(facts.pod),
    ]


def decide_request(facts: RequestFacts, namespace: str) -> list[Check]:
    """Return the checks of DataKeyRequests, without a pod."""
    return [*check_requests(facts, namespace, None), check_trust_bundle(facts.trust_bundle)]


def build_explanation(subject: str, namespace: str, checks: Sequence[Check]) -> Explanation:
    """Return the explanation of an object."""
    return Explanation(subject, namespace, tuple(checks))
