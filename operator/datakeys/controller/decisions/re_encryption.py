"""The re-encryption of all data keys under a KMS key, after its key material has changed.

Zone: ciphertext only, no I/O; the clock is an argument. Nothing is remembered but what is there anyway: a
request is done if all its data keys are under the current material. So a campaign goes on after a crash where
it was.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from datakeys.contract.conditions import format_time
from datakeys.contract.crd.kmskey import DEFAULT_RE_ENCRYPTIONS_PER_SECOND, ReEncryptionPhase
from datakeys.controller.decisions.data_key_versions import find_outdated
from datakeys.controller.decisions.request_view import RequestView


@dataclass(frozen=True, slots=True)
class ReEncryptionWish:
    """What a KmsKey says about re-encryption."""

    enabled: bool = False
    paused: bool = False
    per_second: int = DEFAULT_RE_ENCRYPTIONS_PER_SECOND


NO_WISH: Final = ReEncryptionWish()


@dataclass(frozen=True, slots=True)
class Progress:
    """How many requests there are, are left, and of these have failed or wait for their next attempt."""

    total: int
    left: int
    failed: int
    waiting: int


@dataclass(frozen=True, slots=True)
class Report:
    """A new ``status.reEncryption``, and whether it tells of a beginning or an end."""

    status: dict[str, Any]
    started: bool
    finished: bool


def parse_wish(spec: Mapping[str, Any]) -> ReEncryptionWish:
    """Return what a KmsKey's spec says."""
    given = spec.get("reEncryption") or {}
    return ReEncryptionWish(
        enabled=bool(given.get("enabled")),
        paused=bool(given.get("paused")),
        per_second=int(given.get("requestsPerSecond") or DEFAULT_RE_ENCRYPTIONS_PER_SECOND),
    )


def select_outdated(requests: Iterable[RequestView], *, key_arn: str, material_id: str) -> list[RequestView]:
    """Return the requests with a data key under other material of a KMS key, in the order of their names."""
    found = [
        request
        for request in requests
        if not request.deleting and find_outdated(request.versions, key_arn=key_arn, material_id=material_id)
    ]
    return sorted(found, key=lambda request: request.key)


def decide_phase(wish: ReEncryptionWish, progress: Progress, *, usable: bool) -> ReEncryptionPhase:
    """Return where a campaign stands; ``usable``: the KMS key can be used."""
    if not wish.enabled:
        return ReEncryptionPhase.IDLE
    if not progress.left:
        return ReEncryptionPhase.COMPLETE
    if wish.paused:
        return ReEncryptionPhase.PAUSED
    if not usable or progress.waiting == progress.left:
        return ReEncryptionPhase.WAITING
    return ReEncryptionPhase.RUNNING


def build_report(
    told: Mapping[str, Any], phase: ReEncryptionPhase, progress: Progress, *, material_id: str, now: datetime
) -> Report | None:
    """Return what is to be told, or None if nothing has changed.

    Args:
        told: ``status.reEncryption`` so far.
        phase: Where the campaign stands.
        progress: How far it is.
        material_id: The key's current material.
        now: The time.
    """
    if phase is ReEncryptionPhase.IDLE:
        ended = told.get("phase") in (None, ReEncryptionPhase.IDLE, ReEncryptionPhase.COMPLETE)
        return None if ended else Report({**told, "phase": phase}, started=False, finished=False)
    complete = phase is ReEncryptionPhase.COMPLETE
    known = told.get("keyMaterialId") == material_id
    if complete and known and told.get("finishedAt"):
        return None  # requests that came since were under this material from the beginning
    goes_on = known and not told.get("finishedAt") and bool(told.get("startedAt"))
    done = progress.total - progress.left
    status = {
        "phase": phase,
        "progress": f"{done}/{progress.total}",
        "done": done,
        "total": progress.total,
        "failed": progress.failed,
        "keyMaterialId": material_id,
        "startedAt": told["startedAt"] if goes_on else format_time(now),
        "finishedAt": format_time(now) if complete else None,
    }
    if {name: value for name, value in status.items() if value is not None} == dict(told):
        return None
    return Report(status, started=not goes_on and not complete, finished=goes_on and complete)
