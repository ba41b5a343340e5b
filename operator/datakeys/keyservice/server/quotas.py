"""Rate quotas: how many calls per second an account, and one caller in it, may make, by kind of operation.

Zone: pure; the clock is an argument. One bucket of tokens per account and kind in every replica: a quota is
per replica, and one account's flood never takes another's share. One caller, a pod or a ServiceAccount
without one, gets half of it at most, so that no pod alone takes what its neighbours need to start. A burst of
one second's worth is let through. Source: AWS KMS Developer Guide, "Request quotas"; kms-semantics section 5.
Only the quotas of cryptographic operations are kept: those of management calls are low at AWS (5 CreateKey a
second), and a GitOps tool that applies a hundred keys at once must not be held up by them.
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

#: Part of its account's quota that one caller may use up alone.
CALLER_SHARE: Final = 0.5
#: Accounts that are remembered, and callers; who called least recently is forgotten, with a full bucket.
MAX_BUCKETS: Final = 10_000
#: After so many seconds the bucket is full again, whatever the quota.
RETRY_AFTER_SECONDS: Final = 1


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
        self._accounts = _Buckets()
        self._callers = _Buckets()

    def take(self, account: str, operation: str, caller: str = "") -> None:
        """Count a call of an account.

        Args:
            account: The account that the call is made for.
            operation: The API verb.
            caller: UID of who calls; empty for the controller, which acts for the account as a whole.

        Raises:
            ThrottlingError: The account's or the caller's quota is used up for now; nothing is counted.
        """
        kind_and_rate = self._rates.get(operation)
        if kind_and_rate is None:
            return
        kind, rate = kind_and_rate
        now = self._monotonic()
        with self._lock:
            of_account = self._accounts.fill((account, kind), rate, now)
            whose = "the account's" if of_account < 1 else ""
            if caller and not whose:
                of_caller = self._callers.fill((caller, kind), max(1.0, rate * CALLER_SHARE), now)
                if of_caller < 1:
                    whose = "this caller's part of the account's"
                else:
                    self._callers.put((caller, kind), of_caller - 1, now)
            if not whose:
                self._accounts.put((account, kind), of_account - 1, now)
        if whose:
            raise ThrottlingError(
                f"You have exceeded the rate at which you may call KMS: {whose} quota of {kind}."
            )


class _Buckets:
    """What is left in each bucket, and since when."""

    def __init__(self) -> None:
        self._levels: OrderedDict[tuple[str, str], tuple[float, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._levels)

    def fill(self, bucket: tuple[str, str], rate: float, now: float) -> float:
        """Return how many tokens a bucket has now; at most one second's worth, which a new one has."""
        level = self._levels.get(bucket)
        return rate if level is None else min(rate, level[0] + (now - level[1]) * rate)

    def put(self, bucket: tuple[str, str], tokens: float, now: float) -> None:
        """Remember how many tokens a bucket has."""
        self._levels[bucket] = (tokens, now)
        self._levels.move_to_end(bucket)
        if len(self._levels) > MAX_BUCKETS:
            self._levels.popitem(last=False)
