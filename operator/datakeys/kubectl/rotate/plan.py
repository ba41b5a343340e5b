"""What to write into a KmsKey. Zone: no I/O; the clock is an argument."""

from datetime import datetime

from datakeys.contract.conditions import format_time
from datakeys.kubectl.answers import Json


def build_rotation_token(now: datetime) -> str:
    """Return a text for ``spec.rotateOnDemand``: a new one each time, and a person can read when."""
    return f"kubectl-kms {format_time(now)} {now.microsecond:06d}"


def build_rotation_patch(token: str, *, re_encrypt: bool) -> Json:
    """Return the patch that rotates a key once, and then re-encrypts if that is wanted."""
    spec: Json = {"rotateOnDemand": token}
    if re_encrypt:
        spec["reEncryption"] = {"enabled": True, "paused": False}
    return {"spec": spec}


def build_steering_patch(*, paused: bool) -> Json:
    """Return the patch that pauses a re-encryption or lets it go on."""
    return {"spec": {"reEncryption": {"paused": paused}}}


def is_re_encrypting(key: Json) -> bool:
    """Return whether a key's spec asks for re-encryption."""
    return bool(((key.get("spec") or {}).get("reEncryption") or {}).get("enabled"))
