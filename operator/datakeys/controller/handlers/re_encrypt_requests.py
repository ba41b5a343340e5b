"""Campaigns: brings all data keys under a KMS key under its current key material. Zone: ciphertext only.

Runs in slices: at the end of each, what is done is counted and told. Nothing is asked for again and again: a
campaign wakes when its KmsKey changes, when the key service tells of a change of the key, when a request
turns up that isn't done, and when the back-off of one that has failed is over.
"""

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Final

from datakeys.contract.crd.kmskey import ReEncryptionPhase
from datakeys.controller import metrics
from datakeys.controller.decisions.backoff import backoff_seconds, is_quiet
from datakeys.controller.decisions.failure import FailedAttempt
from datakeys.controller.decisions.keys import KeyFacts
from datakeys.controller.decisions.re_encryption import (
    Progress,
    Report,
    build_report,
    decide_phase,
    select_outdated,
)
from datakeys.controller.decisions.request_view import ObjectKey, RequestView
from datakeys.controller.kube.api import KEYS, KubeApi
from datakeys.controller.kube.errors import KubeError, MissingError
from datakeys.controller.kube.events import EventReason, EventRecorder, Subject
from datakeys.controller.re_encryption_turns import Turns
from datakeys.controller.request_memory import RequestMemory

#: How long a slice takes, and so how often progress is told at most.
SLICE_SECONDS: Final = 2.0
#: Turns of one campaign at the same time: new requests must not have to wait behind it.
MAX_IN_FLIGHT: Final = 8
_KUBE_RETRY_SECONDS: Final = 5.0


@dataclass
class _Failure:
    code: str
    attempts: int
    retry_at: float


@dataclass
class _Campaign:
    """What is remembered of a campaign; all of it can be lost."""

    told: Mapping[str, Any]
    failures: dict[ObjectKey, _Failure] = field(default_factory=dict)
    next_turn: float = 0.0


@dataclass
class ReEncrypter:
    """Looks at the campaign of a KmsKey when told to.

    Attributes:
        all_seen: Returns once all requests were seen, so that the first count isn't of those that came first.
        work_on: Lets a worker look at a request.
    """

    api: KubeApi
    recorder: EventRecorder
    requests: RequestMemory
    keys: Mapping[ObjectKey, KeyFacts]
    turns: Turns
    all_seen: Callable[[], Awaitable[object]]
    work_on: Callable[[ObjectKey], None]
    _campaigns: dict[ObjectKey, _Campaign] = field(default_factory=dict)

    async def look(self, key: ObjectKey) -> float | None:
        """Do one slice of a campaign; return when to look again, in seconds; None: when something changes."""
        facts = self.keys.get(key)
        if facts is None or not facts.material_id:
            return None
        if not facts.wish.enabled and not facts.told:
            return None
        campaign = self._campaigns.setdefault(key, _Campaign(facts.told))
        try:
            await self.all_seen()
            if facts.wish.enabled and not facts.wish.paused and facts.is_enabled:
                await self._work(campaign, facts)
            return await self._tell(campaign, facts)
        except MissingError:
            return None
        except KubeError:
            return _KUBE_RETRY_SECONDS

    def start_over(self, key: ObjectKey) -> None:
        """Note that something has changed: earlier failures don't count."""
        if key in self._campaigns:
            self._campaigns[key].failures.clear()

    def forget(self, key: ObjectKey) -> None:
        """Forget a KmsKey that exists no more."""
        self._campaigns.pop(key, None)

    async def _work(self, campaign: _Campaign, facts: KeyFacts) -> None:
        loop, running = asyncio.get_running_loop(), set[asyncio.Task[None]]()
        end = loop.time() + SLICE_SECONDS
        for request in self._outdated(facts):
            failure = campaign.failures.get(request.key)
            if failure is not None and failure.retry_at > loop.time():
                continue
            campaign.next_turn = max(loop.time(), campaign.next_turn)
            if campaign.next_turn >= end:
                break
            await asyncio.sleep(campaign.next_turn - loop.time())
            if self.keys.get(facts.key) != facts:
                break  # paused, rotated again, disabled: the next look will see
            campaign.next_turn += 1 / facts.wish.per_second
            running.add(asyncio.create_task(self._take_turn(campaign, facts, request.key)))
            if len(running) >= MAX_IN_FLIGHT:
                _, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        if running:
            await asyncio.wait(running)

    async def _take_turn(self, campaign: _Campaign, facts: KeyFacts, request: ObjectKey) -> None:
        outcome = self.turns.give(request, facts.arn, facts.material_id)
        self.work_on(request)
        failed = await outcome
        metrics.RE_ENCRYPTIONS.labels(failed.code if failed else "ok").inc()
        if failed is None:
            campaign.failures.pop(request, None)
        else:
            self._note_failure(campaign, request, failed)

    def _note_failure(self, campaign: _Campaign, request: ObjectKey, failed: FailedAttempt) -> None:
        before = campaign.failures.get(request)
        attempts = 1 if before is None else before.attempts + 1
        pause = backoff_seconds(attempts, random.random())  # noqa: S311 - jitter
        retry_at = asyncio.get_running_loop().time() + pause
        quiet = failed.retryable and is_quiet(attempts)
        code = "" if quiet else failed.code
        campaign.failures[request] = _Failure(code, attempts, retry_at)
        view = self.requests.get(request)
        if view is not None and code and (before is None or before.code != code):
            subject = Subject("DataKeyRequest", request.namespace, request.name, view.uid)
            note = f"Not re-encrypted: {failed.message.rstrip('.')}. It is tried again; the data key stays"
            self.recorder.record(subject, EventReason.RE_ENCRYPTION_FAILED, note)

    async def _tell(self, campaign: _Campaign, facts: KeyFacts) -> float | None:
        """Write how far the campaign is; return when to go on, in seconds; None: when something changes."""
        now = asyncio.get_running_loop().time()
        outdated = {request.key for request in self._outdated(facts)}
        campaign.failures = {key: it for key, it in campaign.failures.items() if key in outdated}
        retries = [it.retry_at - now for it in campaign.failures.values() if it.retry_at > now]
        progress = Progress(
            total=sum(not request.deleting for request in self.requests.under_key(facts.arn)),
            left=len(outdated),
            failed=len(campaign.failures),
            waiting=len(retries),
        )
        phase = decide_phase(facts.wish, progress, usable=facts.is_enabled)
        report = build_report(
            campaign.told, phase, progress, material_id=facts.material_id, now=datetime.now(UTC)
        )
        if report is not None:
            await self._write(campaign, facts, report)
        if phase is ReEncryptionPhase.RUNNING:
            return 0.0
        return min(retries) if phase is ReEncryptionPhase.WAITING and retries else None

    async def _write(self, campaign: _Campaign, facts: KeyFacts, report: Report) -> None:
        # No resourceVersion: this field has no other writer.
        body = {"status": {"reEncryption": report.status}}
        await self.api.patch_status(KEYS, facts.key.namespace, facts.key.name, body)
        campaign.told = {name: value for name, value in report.status.items() if value is not None}
        subject, progress = Subject("KmsKey", *facts.key, facts.uid), report.status["progress"]
        if report.started:
            note = f"Data keys are re-encrypted under key material {facts.material_id}: {progress}"
            self.recorder.record(subject, EventReason.RE_ENCRYPTION_STARTED, note)
        if report.finished:
            note = f"All data keys are under key material {facts.material_id}: {progress}"
            self.recorder.record(subject, EventReason.RE_ENCRYPTION_COMPLETE, note)

    def _outdated(self, facts: KeyFacts) -> list[RequestView]:
        return select_outdated(
            self.requests.under_key(facts.arn), key_arn=facts.arn, material_id=facts.material_id
        )


@dataclass
class ReEncryptionWakeups:
    """Turns changes of objects into looks at campaigns.

    Attributes:
        look_at: Puts a KmsKey into the queue whose work is the re-encrypter's ``look``.
    """

    re_encrypter: ReEncrypter
    look_at: Callable[[ObjectKey], None]
    _by_arn: dict[str, KeyFacts] = field(default_factory=dict)

    def on_key(self, old: KeyFacts | None, new: KeyFacts) -> None:
        """Take a change of a KmsKey."""
        self._by_arn[new.arn] = new
        concerned = new.wish.enabled or (bool(new.told) if old is None else old.wish.enabled)
        if old != new and concerned:
            self._wake(new.key)

    def on_changed_keys(self, changed: Iterable[KeyFacts]) -> None:
        """Take changes of keys that the key service tells about: of their state, their policy, anything."""
        for facts in changed:
            known = self._by_arn.get(facts.arn)
            if known is not None and known.wish.enabled:
                self._wake(known.key)

    def on_request(self, view: RequestView) -> None:
        """Take a state of a request: it may have a data key that isn't done."""
        for key_arn in {version.encrypted.key_arn for version in view.versions}:
            facts = self._by_arn.get(key_arn)
            if facts is None or not facts.wish.enabled or not facts.material_id:
                continue
            if select_outdated([view], key_arn=key_arn, material_id=facts.material_id):
                self.look_at(facts.key)

    def forget(self, key: ObjectKey) -> None:
        """Forget a KmsKey that exists no more."""
        self._by_arn = {arn: facts for arn, facts in self._by_arn.items() if facts.key != key}
        self.re_encrypter.forget(key)

    def _wake(self, key: ObjectKey) -> None:
        self.re_encrypter.start_over(key)
        self.look_at(key)
