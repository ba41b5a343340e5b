"""Refusals of the Kubernetes API, split by what the caller can do.

Zone: texts name objects, never contents.
"""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

_TERMINATING = "NamespaceTerminating"


class KubeError(Exception):
    """Root of all errors of the Kubernetes API."""

    def __init__(
        self, status: int, reason: str, message: str, *, causes: frozenset[str] = frozenset()
    ) -> None:
        super().__init__(f"{reason or status}: {message}")
        self.status = status
        self.reason = reason
        self.message = message
        self.causes = causes

    @property
    def is_terminating(self) -> bool:
        """Return whether the namespace is being removed, so that nothing can be made in it."""
        return _TERMINATING in self.causes


class UnavailableError(KubeError):
    """The API server didn't answer, or can't answer now."""


class ForbiddenError(KubeError):
    """RBAC, admission or quota say no."""


class MissingError(KubeError):
    """No such object, or no such namespace."""


class ExistsError(KubeError):
    """The name is taken."""


class ConflictError(KubeError):
    """The object has changed since it was read."""


class GoneError(KubeError):
    """The watch's resourceVersion is too old."""


def build_kube_error(status: int, body: Mapping[str, Any]) -> KubeError:
    """Return the error that an answer stands for; ``body`` is a ``Status`` object or empty."""
    reason, message = str(body.get("reason") or ""), str(body.get("message") or f"HTTP {status}")
    details = body.get("details") or {}
    causes = frozenset(str(cause.get("reason")) for cause in details.get("causes") or ())
    return _error_type(status, reason)(status, reason, message, causes=causes)


def _error_type(status: int, reason: str) -> type[KubeError]:
    if status == HTTPStatus.CONFLICT:
        return ExistsError if reason == "AlreadyExists" else ConflictError
    if status >= HTTPStatus.INTERNAL_SERVER_ERROR or status == HTTPStatus.TOO_MANY_REQUESTS:
        return UnavailableError
    by_status: dict[int, type[KubeError]] = {
        HTTPStatus.UNAUTHORIZED: UnavailableError,
        HTTPStatus.FORBIDDEN: ForbiddenError,
        HTTPStatus.NOT_FOUND: MissingError,
        HTTPStatus.GONE: GoneError,
    }
    return by_status.get(status, KubeError)
