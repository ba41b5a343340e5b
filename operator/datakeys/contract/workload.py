"""What a workload's annotations ask for, and what the DataKeyRequest made for it is called.

Zone: no secrets, no I/O; annotations are untrusted. The webhook and the controller come to the same names
without talking to each other: the webhook mounts a Secret that the controller is still about to make.
"""

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, Self, TypeVar

from datakeys.contract.arn import ALIAS_NAME_PATTERN, KEY_ID_PATTERN, MAX_KEY_ID_LENGTH
from datakeys.contract.encryption_context import MAX_CONTEXT_CHARACTERS, RESERVED_PREFIX
from datakeys.contract.identity import (
    ANNOTATION_DELETION_POLICY,
    ANNOTATION_ENCRYPTION_CONTEXT,
    ANNOTATION_KEY,
    ANNOTATION_KEY_NAME,
    ANNOTATION_KEY_SPEC,
    ANNOTATION_NUMBER_OF_BYTES,
    ANNOTATION_SCOPE,
)
from datakeys.contract.key_types import MAX_DATA_KEY_BYTES, MIN_DATA_KEY_BYTES, DataKeySpec

DEFAULT_KEY_NAME: Final = "data-key"
#: The only kind whose pods have ordinals.
STATEFUL_SET: Final = "StatefulSet"
#: The name of a DataKeyRequest becomes the value of a label.
MAX_REQUEST_NAME: Final = 63
_DIGEST_CHARACTERS: Final = 8
_MAX_DIGITS: Final = 4

#: Source: Kubernetes "Object Names and IDs", section "DNS Subdomain Names".
_DNS_SUBDOMAIN: Final = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_MAX_OBJECT_NAME: Final = 253
_KEY_ID: Final = re.compile(rf"arn:.+|{ALIAS_NAME_PATTERN}|{KEY_ID_PATTERN}")


_Choice = TypeVar("_Choice", bound=StrEnum)


class AnnotationError(ValueError):
    """An annotation is malformed; the text starts with its name."""


class Scope(StrEnum):
    """Whether all pods of a workload share a data key."""

    WORKLOAD = "workload"
    POD = "pod"


class DeletionPolicy(StrEnum):
    """What becomes of a DataKeyRequest when its workload is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


@dataclass(frozen=True, slots=True)
class Workload:
    """The object that the pods belong to, within its namespace."""

    kind: str
    name: str

    def __str__(self) -> str:
        """Return ``Kind/name``, the value of the annotation ``datakeys.dev/workload``."""
        return f"{self.kind}/{self.name}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``Kind/name``.

        Raises:
            ValueError: The text has another form.
        """
        kind, _, name = text.partition("/")
        if not kind.isascii() or not kind.isalnum() or not is_object_name(name):
            raise ValueError("not of the form Kind/name")
        return cls(kind, name)


@dataclass(frozen=True, slots=True)
class WorkloadWish:
    """The data key that a workload asks for.

    Attributes:
        key_id: Key id, ARN or alias of the KMS key; None if ``key_ref`` is given.
        key_ref: Name of the KmsKey in the workload's namespace; None if ``key_id`` is given.
        key_spec: Length by name; None if ``number_of_bytes`` is given.
        number_of_bytes: 1..1024; None if ``key_spec`` is given.
        encryption_context: The user's pairs.
        key_name: Under which name the data key is delivered.
    """

    key_id: str | None
    key_ref: str | None
    key_spec: DataKeySpec | None
    number_of_bytes: int | None
    encryption_context: Mapping[str, str]
    key_name: str
    scope: Scope
    deletion_policy: DeletionPolicy


def parse_workload_wish(annotations: Mapping[str, str]) -> WorkloadWish | None:
    """Return what the annotations ask for; None without ``datakeys.dev/key``.

    Raises:
        AnnotationError: One of them is malformed.
    """
    key = annotations.get(ANNOTATION_KEY)
    if key is None:
        return None
    key_id, key_ref = _parse_key(key.strip())
    key_spec, number_of_bytes = _parse_length(annotations)
    return WorkloadWish(
        key_id=key_id,
        key_ref=key_ref,
        key_spec=key_spec,
        number_of_bytes=number_of_bytes,
        encryption_context=_parse_context(annotations.get(ANNOTATION_ENCRYPTION_CONTEXT, "")),
        key_name=_parse_key_name(annotations.get(ANNOTATION_KEY_NAME, DEFAULT_KEY_NAME)),
        scope=_parse_choice(annotations, ANNOTATION_SCOPE, Scope.WORKLOAD, Scope),
        deletion_policy=_parse_choice(
            annotations, ANNOTATION_DELETION_POLICY, DeletionPolicy.RETAIN, DeletionPolicy
        ),
    )


def build_request_name(workload: Workload, ordinal: int | None = None) -> str:
    """Return the name of the DataKeyRequest made for a workload, or for one ordinal of it.

    ``orders.deployment``, ``db-0.statefulset``: a dot and the kind keep workloads of one name apart. At most
    63 characters; what is too long is cut and gets 8 hex digits of its SHA-256.
    """
    stem = workload.name if ordinal is None else f"{workload.name}-{ordinal}"
    suffix = f".{workload.kind.lower()}"
    if len(stem) + len(suffix) <= MAX_REQUEST_NAME:
        return stem + suffix
    digest = hashlib.sha256(stem.encode()).hexdigest()[:_DIGEST_CHARACTERS]
    room = MAX_REQUEST_NAME - len(suffix) - len(digest) - 1
    return f"{stem[:room].rstrip('-.')}-{digest}{suffix}"


def find_ordinal(workload: Workload, pod_name: str) -> int | None:
    """Return the ordinal of a StatefulSet's pod, ``db-3``; None if it isn't one."""
    stem, _, digits = pod_name.rpartition("-")
    fits = workload.kind == STATEFUL_SET and stem == workload.name and digits.isascii() and digits.isdecimal()
    return int(digits) if fits and str(int(digits)) == digits else None


def is_object_name(name: str) -> bool:
    """Return whether a text can be the name of an object: a DNS subdomain."""
    return len(name) <= _MAX_OBJECT_NAME and _DNS_SUBDOMAIN.fullmatch(name) is not None


def _parse_key(text: str) -> tuple[str | None, str | None]:
    if len(text) <= MAX_KEY_ID_LENGTH and _KEY_ID.fullmatch(text):
        return text, None
    if is_object_name(text):
        return None, text
    raise AnnotationError(
        f"annotation {ANNOTATION_KEY}: must be a key id, an ARN, an alias or the name of a KmsKey"
    )


def _parse_length(annotations: Mapping[str, str]) -> tuple[DataKeySpec | None, int | None]:
    spec, number = annotations.get(ANNOTATION_KEY_SPEC), annotations.get(ANNOTATION_NUMBER_OF_BYTES)
    if number is None:
        return _parse_choice(annotations, ANNOTATION_KEY_SPEC, DataKeySpec.AES_256, DataKeySpec), None
    if spec is not None:
        raise AnnotationError(
            f"annotation {ANNOTATION_NUMBER_OF_BYTES}: give it or {ANNOTATION_KEY_SPEC}, not both"
        )
    fits = number.isascii() and number.isdecimal() and len(number) <= _MAX_DIGITS
    if not fits or not MIN_DATA_KEY_BYTES <= int(number) <= MAX_DATA_KEY_BYTES:
        raise AnnotationError(
            f"annotation {ANNOTATION_NUMBER_OF_BYTES}: must be a number "
            f"from {MIN_DATA_KEY_BYTES} to {MAX_DATA_KEY_BYTES}"
        )
    return None, int(number)


def _parse_context(text: str) -> dict[str, str]:
    context: dict[str, str] = {}
    for pair in text.split(",") if text.strip() else ():
        name, equals, value = (part.strip() for part in pair.partition("="))
        if not name or not equals:
            raise AnnotationError(
                f"annotation {ANNOTATION_ENCRYPTION_CONTEXT}: must be pairs, name=value,name=value"
            )
        if name in context:
            raise AnnotationError(f"annotation {ANNOTATION_ENCRYPTION_CONTEXT}: {name[:64]!r} is given twice")
        if name.lower().startswith(RESERVED_PREFIX):
            raise AnnotationError(
                f"annotation {ANNOTATION_ENCRYPTION_CONTEXT}: names with the prefix {RESERVED_PREFIX} "
                "are reserved"
            )
        context[name] = value
    if len(text) > MAX_CONTEXT_CHARACTERS:
        raise AnnotationError(
            f"annotation {ANNOTATION_ENCRYPTION_CONTEXT}: has more than {MAX_CONTEXT_CHARACTERS} characters"
        )
    return context


def _parse_key_name(text: str) -> str:
    if not is_object_name(text):
        raise AnnotationError(
            f"annotation {ANNOTATION_KEY_NAME}: must be a name of lower-case letters, digits, dashes and dots"
        )
    return text


def _parse_choice(
    annotations: Mapping[str, str], annotation: str, default: _Choice, choices: type[_Choice]
) -> _Choice:
    try:
        return choices(annotations.get(annotation, default))
    except ValueError:
        raise AnnotationError(f"annotation {annotation}: must be {' or '.join(choices)}") from None
