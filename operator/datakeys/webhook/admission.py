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
#: etcd takes objects of 1.5 MiB, which as JSON are twice as long at most; a review of an update holds two.
MAX_BODY_BYTES: Final = 6 << 20


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
        review, injection = await self._decide(await request.read())
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

    async def _decide(self, body: bytes) -> tuple[ReviewRequest, Injection]:
        """Decide about an object; refuse a pod if its requests can't be looked up.

        Guessing would be safe too (the pod would wait for a Secret of the request's name), but a pod can't be
        corrected later: with another ``secretName`` it would wait for ever. A refused pod is simply created
        again by its owner, once the API server answers.
        """
        review = parse_review(body)
        if review.workload is not None:
            return review, build_stamps(review.workload, review.old_workload, self._settings)
        if review.pod is None:
            return review, Injection()
        namespace, names = review.namespace, find_requests(review.pod)
        # The body alone waits for the answer: a parsed review may take thirty times its memory, so there is
        # never more than one.
        del review
        try:
            facts = await self._lookup.fetch(namespace, names)
        except LookupUnavailableError as error:
            message = f"the DataKeyRequests of this pod can't be looked up now ({error.message}); try again"
            refusal = Refusal(message, int(HTTPStatus.SERVICE_UNAVAILABLE), "ServiceUnavailable")
            return parse_review(body), Injection(refusal=refusal)
        review = parse_review(body)
        return review, build_injection(review.pod or {}, facts, self._settings)


def _name_result(review: ReviewRequest, injection: Injection) -> str:
    """Return the value of the metric's label."""
    if injection.refusal:
        return "refused"
    if not injection.patch:
        return "unchanged"
    return "stamped" if review.workload is not None else "injected"


def _build_error(status: HTTPStatus, message: str) -> web.Response:
    return web.json_response({"code": int(status), "message": message}, status=int(status))
