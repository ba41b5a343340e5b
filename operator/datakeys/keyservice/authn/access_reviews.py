"""Ask the cluster's RBAC, and remember the answers for seconds.

Zone: no tokens, only who their bearers are. Everything fails closed. Threads may share it; a burst of one
question makes one review (single flight). Needs: create on subjectaccessreviews. Source: Kubernetes API,
authorization.k8s.io/v1 SubjectAccessReview.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any, Final

from datakeys.contract.errors import DependencyTimeoutError
from datakeys.contract.identity import GROUP
from datakeys.keyservice.authz.rbac import RESOURCE, VERB, RbacQuestion
from datakeys.keyservice.cluster_api import ClusterApi

PATH: Final = "/apis/authorization.k8s.io/v1/subjectaccessreviews"
ALLOWED_SECONDS: Final = 10.0
DENIED_SECONDS: Final = 5.0
MAX_REMEMBERED: Final = 20_000


class ClusterAuthorizer:
    """Implements `Authorizer` by SubjectAccessReviews."""

    def __init__(self, api: ClusterApi, monotonic: Callable[[], float]) -> None:
        self._api = api
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._answers: OrderedDict[RbacQuestion, tuple[bool, float]] = OrderedDict()
        self._pending: dict[RbacQuestion, Future[bool]] = {}

    def find_cached(self, question: RbacQuestion) -> bool | None:
        """Return an answer that is still fresh, or None. Never blocks."""
        found = self._answers.get(question)
        return None if found is None or self._monotonic() >= found[1] else found[0]

    def decide(self, question: RbacQuestion) -> bool:
        """Return the answer, from memory or from the cluster. May block.

        Raises:
            DependencyTimeoutError: The cluster can't be asked.
        """
        with self._lock:
            cached = self.find_cached(question)
            if cached is not None:
                return cached
            pending = self._pending.get(question)
            if pending is None:
                self._pending[question] = mine = Future[bool]()
        if pending is not None:
            return pending.result()
        try:
            allowed = self._review(question)
        except BaseException as failure:
            with self._lock:
                del self._pending[question]
            mine.set_exception(failure)
            raise
        mine.set_result(allowed)
        return allowed

    def _review(self, question: RbacQuestion) -> bool:
        # The answer counts from before the question: a right that goes meanwhile is missed in time.
        started = self._monotonic()
        answer = self._api.call("POST", PATH, body=build_review(question))
        if answer.status not in (200, 201):
            raise DependencyTimeoutError("the cluster refuses to review access")
        status = answer.body.get("status") or {}
        allowed = status.get("allowed") is True and status.get("denied") is not True
        with self._lock:
            lifetime = ALLOWED_SECONDS if allowed else DENIED_SECONDS
            self._answers[question] = (allowed, started + lifetime)
            self._answers.move_to_end(question)
            while len(self._answers) > MAX_REMEMBERED:
                self._answers.popitem(last=False)
            del self._pending[question]
        return allowed


def build_review(question: RbacQuestion) -> dict[str, Any]:
    """Return the SubjectAccessReview of a question."""
    attributes = {
        "group": GROUP,
        "resource": RESOURCE,
        "subresource": question.subresource,
        "verb": VERB,
        "namespace": question.namespace,
    }
    if question.name:
        attributes["name"] = question.name
    principal = question.principal
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": "SubjectAccessReview",
        "spec": {
            "user": principal.user_name,
            "uid": principal.service_account_uid,
            "groups": list(question.groups),
            "extra": question.extra,
            "resourceAttributes": attributes,
        },
    }
