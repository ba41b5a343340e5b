"""Which CAs there are, which of them signs, and when. Pure.

Zone: CAs and leaves pass through; the clock is an argument, in seconds since the epoch.
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from datakeys.contract.errors import DependencyTimeoutError
from datakeys.keyservice.pki.authority import (
    Generation,
    Leaf,
    Lifetimes,
    build_generation,
    find_issuer,
    is_leaf_fit,
    is_renewal_due,
)

#: How long a new bundle takes to reach every client at most: the controller's copies, then the kubelet, which
#: looks once a minute with a cache of a minute.
PROPAGATION_SECONDS: Final = 300


def decide_generations(
    generations: Sequence[Generation], now: float, lifetimes: Lifetimes
) -> list[Generation] | None:
    """Return the generations as they should be, or None if they are right.

    A successor is made when a third of the newest CA's life is left. Of the expired CAs only the last one
    stays: should the clock be wrong, it is the one that everybody trusts.
    """
    expired = [generation for generation in generations if generation.expires_at <= now]
    kept = [generation for generation in generations if generation not in expired[:-1]]
    signers = find_signers(kept, now)
    if not signers or is_renewal_due(signers[-1].certificate_pem, now):
        return [*kept, build_generation(now, lifetimes)]
    return kept if len(kept) != len(generations) else None


def note_published(
    generations: Sequence[Generation], published: Sequence[Generation], now: float
) -> list[Generation] | None:
    """Return the generations with the time at which they were published; None if it is known of all."""
    pems = {generation.certificate_pem for generation in published}
    noted = [
        replace(one, published_at=now) if one.published_at is None and one.certificate_pem in pems else one
        for one in generations
    ]
    return None if noted == list(generations) else noted


def find_signers(generations: Sequence[Generation], now: float) -> list[Generation]:
    """Return the CAs that can sign, oldest first."""
    return [generation for generation in generations if generation.key_pem and generation.is_valid(now)]


def is_known(generation: Generation, now: float, seen_seconds: float, lifetimes: Lifetimes) -> bool:
    """Return whether every client has had the time to learn about a CA.

    Args:
        generation: The CA.
        now: The clock.
        seen_seconds: For how long this process has seen it published, by a clock that never jumps.
        lifetimes: Its overlap is the age that the publication must have.
    """
    if generation.published_at is None or seen_seconds < min(lifetimes.overlap, PROPAGATION_SECONDS):
        return False
    return now >= generation.published_at + lifetimes.overlap


def choose_issuer(
    leaf: Leaf | None,
    dns_names: list[str],
    generations: Sequence[Generation],
    known: Sequence[Generation],
    now: float,
) -> Generation | None:
    """Return the CA that must sign a new leaf, or None if the present one is right.

    The newest CA that every client knows signs. Until there is one, a leaf of any published CA is right. If
    a leaf is needed at once, the oldest CA that can sign makes it: most clients know that one.

    Raises:
        DependencyTimeoutError: No CA can sign, since a replica with another clock has changed them just now.
    """
    signers = find_signers(generations, now)
    if not signers:
        raise DependencyTimeoutError("no CA can sign at this time")
    trusted = [generation for generation in signers if generation in known]
    issuer = find_issuer(leaf, generations, now) if leaf else None
    if leaf is not None and issuer is not None and is_leaf_fit(leaf, dns_names, now):
        newer = [one for one in trusted if generations.index(one) > generations.index(issuer)]
        return newer[-1] if newer else None
    return trusted[-1] if trusted else signers[0]
