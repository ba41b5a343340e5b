"""Rate quotas: how many calls per second an account may make, by kind of operation.

Zone: pure; the clock is an argument. One bucket of tokens per account and kind in every replica: a quota is
per replica, and one account's flood never takes another's share. A burst of one second's worth is let
through. Source: AWS KMS Developer Guide, "Request quotas"; kms-semantics section 5. Only the quotas of
cryptographic operations are kept: those of management calls are low at AWS (5 CreateKey per second), and a
GitOps tool that applies a hundred keys at once must not be held up by them.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Final

from datakeys.contract.errors import ThrottlingError

SYMMETRIC: Final = "cryptographic operations (symmetric)"
ASYMMETRIC: Final = "cryptographic operations (asymmetric)"
KEY_PAIRS: Final = "data key pairs"

#: Calls per second. Source: AWS's quotas of most Regions; key pairs cost up to a second of CPU each.
DEFAULT_RATES: Final[Mapping[str, float]] = {SYMMETRIC: 10_000, ASYMMETRIC: 1_000, KEY_PAIRS: 10}

KINDS: Final[Mapping[str, str]] = {
    **dict.fromkeys(
        (
            "Decrypt",
            "Encrypt",
            "GenerateDataKey",
            "GenerateDataKeyWithoutPlaintext",
            "GenerateMac",
            "GenerateRandom",
            "ReEncrypt",
            "VerifyMac",
        ),
        SYMMETRIC,
    ),
    **dict.fromkeys(("Sign", "Verify"), ASYMMETRIC),
    **dict.fromkeys(
        ("GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext", "GetParametersForImport"), KEY_PAIRS
    ),
}

#: Accounts that are remembered; the one that called least recently is forgotten first, with a full bucket.
MAX_BUCKETS: Final = 10_000


def build_quotas(factor: float, monotonic: Callable[[], float]) -> "RateQuotas | None":
    """Return the quotas times a factor; none for the factor 0."""
    if not factor:
        return None
    return RateQuotas({kind: rate * factor for kind, rate in DEFAULT_RATES.items()}, monotonic)


class RateQuotas:
    """Token buckets, filled by the time that passes."""

    def __init__(self, rates: Mapping[str, float], monotonic: Callable[[], float]) -> None:
        self._rates: Final = {operation: (kind, rates[kind]) for operation, kind in KINDS.items()}
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._buckets: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def take(self, account: str, operation: str) -> None:
        """Count a call of an account.

        Raises:
            ThrottlingError: The account's quota is used up for now.
        """
        kind_and_rate = self._rates.get(operation)
        if kind_and_rate is None:
            return
        kind, rate = kind_and_rate
        with self._lock:
            enough = self._take((account, kind), rate)
        if not enough:
            raise ThrottlingError(f"You have exceeded the rate at which you may call KMS: {kind}.")

    def _take(self, bucket: tuple[str, str], rate: float) -> bool:
        now = self._monotonic()
        tokens, since = self._buckets.get(bucket, (rate, now))
        tokens = min(rate, tokens + (now - since) * rate)
        enough = tokens >= 1
        self._buckets[bucket] = (tokens - 1 if enough else tokens, now)
        self._buckets.move_to_end(bucket)
        if len(self._buckets) > MAX_BUCKETS:
            self._buckets.popitem(last=False)
        return enough
