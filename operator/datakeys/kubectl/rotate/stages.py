"""How far a rotation is, as a KmsKey's status tells. Zone: no I/O."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from datakeys.contract.conditions import CONDITION_SYNCED, REASON_PENDING, REASON_RETRYING, find_condition
from datakeys.contract.crd.kmskey import ReEncryptionPhase
from datakeys.kubectl.answers import Json
from datakeys.kubectl.key_names import status_of
from datakeys.kubectl.rotate.plan import is_re_encrypting

#: Reasons after which the controller goes on by itself.
_GOES_ON: Final = frozenset({REASON_PENDING, REASON_RETRYING})


class Step(StrEnum):
    """Where it stands."""

    ROTATING = "Rotating"
    RE_ENCRYPTING = "ReEncrypting"
    PAUSED = "Paused"
    #: The data keys that are left can't be re-encrypted now; the controller tries again.
    WAITING = "Waiting"
    DONE = "Done"
    FAILED = "Failed"


_STEPS: Final[Mapping[str, Step]] = MappingProxyType(
    {
        ReEncryptionPhase.PAUSED: Step.PAUSED,
        ReEncryptionPhase.WAITING: Step.WAITING,
        ReEncryptionPhase.COMPLETE: Step.DONE,
    }
)


@dataclass(frozen=True, slots=True)
class Stage:
    """One look at the key's status; the counts are of DataKeyRequests."""

    step: Step
    done: int = 0
    total: int = 0
    failures: int = 0
    message: str = ""

    @property
    def is_final(self) -> bool:
        """Return whether waiting can end."""
        return self.step in (Step.DONE, Step.FAILED)

    def to_json(self) -> Json:
        """Return what machines read."""
        counts = {"done": self.done, "total": self.total, "failed": self.failures}
        return {"step": self.step, "message": self.message, "reEncryption": counts}


@dataclass(frozen=True, slots=True)
class Asked:
    """What was asked of a key.

    Attributes:
        token: The ``spec.rotateOnDemand`` that was asked for; None to look at what runs already.
        former: Id of the key's material from before, or None.
        generation: The key's generation since which a failure counts.
    """

    token: str | None = None
    former: str | None = None
    generation: int = 0


def decide_stage(key: Json, asked: Asked) -> Stage:
    """Return how far a key is."""
    status = status_of(key)
    rotation = status.get("onDemandRotation") or {}
    material = status.get("currentKeyMaterialId")
    pending = rotation.get("request") != asked.token or material == (asked.former or "")
    if asked.token is not None and pending:
        return _find_failure(key, asked.generation) or Stage(Step.ROTATING)
    if not is_re_encrypting(key):
        return Stage(Step.DONE)
    campaign = status.get("reEncryption") or {}
    if campaign.get("keyMaterialId") != material:
        # What stands there is of the material before.
        return _find_failure(key, asked.generation) or Stage(Step.RE_ENCRYPTING)
    return Stage(
        _STEPS.get(str(campaign.get("phase")), Step.RE_ENCRYPTING),
        done=int(campaign.get("done") or 0),
        total=int(campaign.get("total") or 0),
        failures=int(campaign.get("failed") or 0),
    )


def _find_failure(key: Json, generation: int) -> Stage | None:
    """Return the failure that the controller reports about this generation of the spec, if any."""
    conditions = status_of(key).get("conditions") or []
    synced = find_condition(conditions, CONDITION_SYNCED)
    raw: Json = next((one for one in conditions if one.get("type") == CONDITION_SYNCED), {})
    if synced is None or synced.status != "False" or synced.reason in _GOES_ON:
        return None
    if int(raw.get("observedGeneration") or 0) < generation:
        return None
    return Stage(Step.FAILED, message=f"{synced.reason}: {synced.message}")
