"""How a pod's data keys are delivered. Zone: no secrets, no I/O; annotations are untrusted."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from datakeys.contract.identity import (
    ANNOTATION_DELIVERY,
    ANNOTATION_FILE_MODE,
    ANNOTATION_FILE_OWNER,
    ANNOTATION_READS,
    ANNOTATION_TTL,
)
from datakeys.webhook.patches.refusal import RefusedError

FILE: Final = "file"
SOCKET: Final = "socket"
#: The keys are delivered once, as files, by an init container that is gone when the app starts.
INIT: Final = "init"
MODES: Final = (FILE, SOCKET, INIT)
READ_ONCE: Final = "once"
OWNER_ONLY: Final = "0400"
GROUP_TOO: Final = "0440"
EVERYBODY: Final = "0444"
FILE_MODES: Final = (OWNER_ONLY, GROUP_TOO, EVERYBODY)
MAX_TTL_SECONDS: Final = 30 * 24 * 3600
#: Source: Kubernetes, Pod API, ``runAsUser``; the kernel's highest UID is no user.
MAX_UID: Final = 2**31 - 1

#: As Go writes durations, without fractions: "90s", "15m", "1h30m".
_DURATION: Final = re.compile(r"(?:(\d{1,7})h)?(?:(\d{1,7})m)?(?:(\d{1,7})s)?", re.ASCII)
_UNITS: Final = (3600, 60, 1)


@dataclass(frozen=True, slots=True)
class Delivery:
    """How, for how long and to whom.

    Attributes:
        mode: ``file``, ``socket`` or ``init``.
        ttl_seconds: How long the plaintext stays after its delivery, up to 30 days; 0: as long as the pod.
        reads_once: The plaintext is destroyed after it was read for the first time.
        file_mode: Mode of the delivered files, as octal digits.
        file_owner: UID that owns the files where the pod's spec doesn't say it; None: not given.
    """

    mode: str = FILE
    ttl_seconds: int = 0
    reads_once: bool = False
    file_mode: str = OWNER_ONLY
    file_owner: int | None = None

    @property
    def is_limited(self) -> bool:
        """Return whether the plaintext is destroyed before the pod ends."""
        return bool(self.ttl_seconds or self.reads_once)


def parse_delivery(annotations: Mapping[str, str]) -> Delivery:
    """Parse the annotations.

    Raises:
        RefusedError: One is malformed, or two don't go together; the message names it.
    """
    delivery = Delivery(
        mode=_parse_choice(annotations, ANNOTATION_DELIVERY, MODES),
        ttl_seconds=_parse_ttl(annotations),
        reads_once=_parse_reads(annotations),
        file_mode=_parse_choice(annotations, ANNOTATION_FILE_MODE, FILE_MODES),
        file_owner=_parse_owner(annotations),
    )
    if delivery.mode == INIT and delivery.is_limited:
        limit = ANNOTATION_TTL if delivery.ttl_seconds else ANNOTATION_READS
        raise RefusedError(
            f"annotation {limit}: can't be combined with {ANNOTATION_DELIVERY} init, because nothing of the "
            "sidecar is left to destroy the data key; use file or socket"
        )
    if delivery.mode == SOCKET and delivery.file_mode != OWNER_ONLY:
        raise RefusedError(
            f"annotation {ANNOTATION_FILE_MODE}: is for files; the socket answers one user only"
        )
    return delivery


def _parse_choice(annotations: Mapping[str, str], annotation: str, choices: tuple[str, ...]) -> str:
    """Return one of the choices; the first is the default."""
    value = annotations.get(annotation, choices[0])
    if value not in choices:
        raise RefusedError(f"annotation {annotation}: must be {', '.join(choices[:-1])} or {choices[-1]}")
    return value


def _parse_ttl(annotations: Mapping[str, str]) -> int:
    text = annotations.get(ANNOTATION_TTL)
    if text is None:
        return 0
    found = _DURATION.fullmatch(text)
    seconds = (
        sum(int(part or 0) * unit for part, unit in zip(found.groups(), _UNITS, strict=True)) if found else 0
    )
    if not 1 <= seconds <= MAX_TTL_SECONDS:
        raise RefusedError(
            f"annotation {ANNOTATION_TTL}: must be a duration from 1s to 720h, such as 90s, 15m or 1h30m"
        )
    return seconds


def _parse_reads(annotations: Mapping[str, str]) -> bool:
    value = annotations.get(ANNOTATION_READS)
    if value not in (None, READ_ONCE):
        raise RefusedError(f"annotation {ANNOTATION_READS}: must be {READ_ONCE}, or be left out")
    return value == READ_ONCE


def _parse_owner(annotations: Mapping[str, str]) -> int | None:
    text = annotations.get(ANNOTATION_FILE_OWNER)
    if text is None:
        return None
    fits = text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_UID))
    if not fits or int(text) > MAX_UID:
        raise RefusedError(f"annotation {ANNOTATION_FILE_OWNER}: must be a UID, a number up to {MAX_UID}")
    return int(text)
