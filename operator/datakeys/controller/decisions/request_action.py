"""What a DataKeyRequest needs next. Zone: ciphertext only, no I/O.

The create of a version's Secret is the atomic step: whoever wins it has set the data key for good. So the
order of trust is the status (a ciphertext in it never vanishes), then an own Secret (a crash came before the
status was written), and only with neither is a data key generated. A re-encrypted ciphertext is in the status
first, and its Secret follows.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from datakeys.contract.conditions import REASON_CONFLICT, REASON_ISSUED
from datakeys.contract.data_key_versions import build_version_secret_name
from datakeys.controller.decisions.data_key_versions import DataKeyVersion
from datakeys.controller.decisions.keys import KeyResolution, UnresolvedKey
from datakeys.controller.decisions.request_view import RequestView
from datakeys.controller.decisions.secret import SecretView, digest_of


@dataclass(frozen=True, slots=True)
class DoNothing:
    """Everything is as it should be."""


@dataclass(frozen=True, slots=True)
class CheckDryRun:
    """Ask the key service whether the request would succeed."""

    key_id: str


@dataclass(frozen=True, slots=True)
class Generate:
    """Generate a data key, create the version's Secret, write the status."""

    key_id: str
    version: int


@dataclass(frozen=True, slots=True)
class Adopt:
    """The version's Secret is there, but the status doesn't know of it: write the status."""

    version: DataKeyVersion


@dataclass(frozen=True, slots=True)
class WriteReady:
    """All is there but the status' condition: write it."""


@dataclass(frozen=True, slots=True)
class RestoreSecret:
    """The version's Secret is lost: create it again from the status."""

    version: DataKeyVersion


@dataclass(frozen=True, slots=True)
class ReplaceSecret:
    """The version's Secret holds the ciphertext from before its re-encryption: put the new one there."""

    version: DataKeyVersion
    old: SecretView


@dataclass(frozen=True, slots=True)
class Refuse:
    """Nothing can be done before something else changes.

    Attributes:
        settling: The obstacle often goes away by itself within a second: look again before it is reported.
        secret_name: The Secret that is in the way, or empty.
    """

    reason: str
    message: str
    settling: bool
    secret_name: str = ""


Action = DoNothing | CheckDryRun | Generate | Adopt | WriteReady | RestoreSecret | ReplaceSecret | Refuse


def decide_request_action(
    request: RequestView, secrets: Mapping[str, SecretView], key: KeyResolution
) -> Action:
    """Return the next step for a request.

    Args:
        request: The request.
        secrets: The Secrets of the request's names that exist; with their content where the status has none.
        key: The KMS key that the request names.
    """
    if request.deleting:
        return DoNothing()
    if request.dry_run:
        return _decide_dry_run(request, key)
    if request.damaged:
        return Refuse(
            REASON_CONFLICT,
            "the status holds a ciphertextBlob that can't be read: restore the status, or make a new request",
            settling=False,
        )
    for version in request.versions:
        action = _decide_issued(request, version, secrets.get(version.secret_name))
        if action is not None:
            return action
    if request.next_version is not None:
        return _decide_next(request, request.next_version, secrets, key)
    return DoNothing() if is_ready(request) else WriteReady()


def is_ready(request: RequestView) -> bool:
    """Return whether the status says Issued and lacks nothing."""
    outcome = request.outcome
    return (
        outcome is not None
        and outcome.is_true
        and outcome.reason == REASON_ISSUED
        and bool(request.versions)
        and request.secret_ref == request.versions[-1].secret_name
        and request.observed_generation == request.generation
    )


def _decide_dry_run(request: RequestView, key: KeyResolution) -> Action:
    outcome = request.outcome
    if outcome is not None and outcome.is_true and request.observed_generation == request.generation:
        return DoNothing()
    if isinstance(key, UnresolvedKey):
        return Refuse(key.reason, key.message, settling=True)
    return CheckDryRun(key.key_id)


def _decide_issued(request: RequestView, version: DataKeyVersion, secret: SecretView | None) -> Action | None:
    """Return what a version that the status holds needs, or None."""
    if secret is None:
        return RestoreSecret(version)
    if secret.owner_uid != request.uid:
        return _foreign(secret)
    if secret.digest == digest_of(version.encrypted.to_secret_data()):
        return None
    if version.former is not None and secret.digest == digest_of(version.former.to_secret_data()):
        return ReplaceSecret(version, secret)
    return _conflict(
        secret,
        "holds another data key than this status: delete the Secret, and it is restored from the status",
    )


def _decide_next(
    request: RequestView, number: int, secrets: Mapping[str, SecretView], key: KeyResolution
) -> Action:
    """Return how the version that is missing comes to be."""
    name = build_version_secret_name(request.secret_name, number)
    secret = secrets.get(name)
    if secret is None:
        if isinstance(key, UnresolvedKey):
            return Refuse(key.reason, key.message, settling=True)
        return Generate(key.key_id, number)
    if secret.owner_uid != request.uid:
        return _foreign(secret)
    encrypted = secret.encrypted
    if encrypted is None or encrypted.encryption_context != request.bound_context:
        return _conflict(
            secret, "doesn't hold this request's data key: delete the Secret, and a data key is issued"
        )
    if any(encrypted.ciphertext_blob == known.encrypted.ciphertext_blob for known in request.versions):
        return _conflict(secret, "holds an older version: delete the Secret, and a new data key is issued")
    return Adopt(DataKeyVersion(number, name, encrypted))


def _foreign(secret: SecretView) -> Refuse:
    # A Secret of a former request of the same name is about to be collected as garbage.
    return _conflict(
        secret,
        "belongs to somebody else and is never overwritten: delete it, or make a request with another "
        "secretName; this continues by itself once it is gone",
    )


def _conflict(secret: SecretView, text: str) -> Refuse:
    return Refuse(REASON_CONFLICT, f"Secret {secret.name} {text}", settling=True, secret_name=secret.name)
