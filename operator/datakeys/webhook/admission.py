"""``POST /mutate-pods`` and ``POST /mutate-workloads``: parse, look up, decide, answer.

Zone: no secrets; logs hold names and decisions, never an object.
"""

import logging
import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import Final, Protocol

from aiohttp import web

from datakeys.webhook.logs import log_event, logger
from datakeys.webhook.metrics import Metrics
from datakeys.webhook.patches import (
    Injection,
    Refusal,
    RequestFacts,
    SidecarSettings,
    build_injection,
    build_stamps,
    find_requests,
)
from datakeys.webhook.review import MalformedReviewError, ReviewRequest, build_answer, parse_review

#: The API server's metrics tell the two apart; what is decided depends on the object alone.
PATHS: Final = ("/mutate-pods", "/mutate-workloads")
#: A request to the API has at most 3 MiB; a review holds the object twice on updates.
MAX_BODY_BYTES: Final = 8 << 20


class LookupUnavailableError(Exception):
    """The DataKeyRequests can't be looked up now; ``message`` says why in one sentence."""

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class RequestLookup(Protocol):
    """Looks DataKeyRequests up."""

    async def fetch(self, namespace: str, names: tuple[str, ...]) -> Mapping[str, RequestFacts | None]:
        """Return the facts of each; None for one that doesn't exist.

        Raises:
            LookupUnavailableError: The API server gives no answer.
        """


class AdmissionHandler:
    """Answers admission reviews."""

    def __init__(self, lookup: RequestLookup, settings: SidecarSettings, metrics: Metrics) -> None:
        self._lookup = lookup
        self._settings = settings
        self._metrics = metrics

    def build_application(self) -> web.Application:
        """Return the HTTP application with this handler's routes."""
        application = web.Application(client_max_size=MAX_BODY_BYTES)
        for path in PATHS:
            application.router.add_post(path, self.handle)
        return application

    async def handle(self, request: web.Request) -> web.Response:
        """Answer one review; whatever goes wrong, no object is admitted as it is."""
        started = time.perf_counter()
        try:
            return await self._answer(request)
        except web.HTTPException:
            self._metrics.admissions.labels("malformed").inc()
            raise
        except MalformedReviewError as error:
            self._metrics.admissions.labels("malformed").inc()
            return _build_error(HTTPStatus.BAD_REQUEST, str(error))
        except Exception:  # noqa: BLE001 - the process edge: the API server applies failurePolicy to status 500
            self._metrics.admissions.labels("error").inc()
            logger.exception("review_failed")
            return _build_error(HTTPStatus.INTERNAL_SERVER_ERROR, "internal error")
        finally:
            self._metrics.seconds.observe(time.perf_counter() - started)

    async def _answer(self, request: web.Request) -> web.Response:
        review = parse_review(await request.read())
        injection = await self._decide(review)
        result = _name_result(review, injection)
        self._metrics.admissions.labels(result).inc()
        log_event(
            "reviewed",
            level=logging.WARNING if injection.refusal else logging.INFO,
            result=result,
            request_id=review.uid,
            namespace=review.namespace,
            name=review.name,
            reason=injection.refusal.message if injection.refusal else None,
        )
        return web.json_response(build_answer(review.uid, injection))

    async def _decide(self, review: ReviewRequest) -> Injection:
        if review.workload is not None:
            return build_stamps(review.workload, review.old_workload, self._settings)
        return Injection() if review.pod is None else await self._decide_pod(review.namespace, review.pod)

    async def _decide_pod(self, namespace: str, pod: dict[str, object]) -> Injection:
        """Decide about a pod; refuse it if its requests can't be looked up.

        Guessing would be safe too (the pod would wait for a Secret of the request's name), but a pod can't be
        corrected later: with another ``secretName`` it would wait for ever. A refused pod is simply created
        again by its owner, once the API server answers.
        """
        try:
            facts = await self._lookup.fetch(namespace, find_requests(pod))
        except LookupUnavailableError as error:
            message = f"the DataKeyRequests of this pod can't be looked up now ({error.message}); try again"
            return Injection(
                refusal=Refusal(message, int(HTTPStatus.SERVICE_UNAVAILABLE), "ServiceUnavailable")
            )
        return build_injection(pod, facts, self._settings)


def _name_result(review: ReviewRequest, injection: Injection) -> str:
    """Return the value of the metric's label."""
    if injection.refusal:
        return "refused"
    if not injection.patch:
        return "unchanged"
    return "stamped" if review.workload is not None else "injected"


def _build_error(status: HTTPStatus, message: str) -> web.Response:
    return web.json_response({"code": int(status), "message": message}, status=int(status))
