"""Who holds how many connections and bytes here, and who goes when there are too many.

Zone: no secrets. API servers show no credentials, so a caller is known by its address only. Each address has
its share; when all places are taken, somebody of the address goes that holds most: not an API server with its
few.
"""

import asyncio
import ipaddress
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final

#: One IPv6 host may have as many addresses as it likes, of the same first bits.
_IPV6_PREFIX: Final = 64


@dataclass(frozen=True, slots=True)
class Limits:
    """What one listener holds at most.

    Attributes:
        connections: At once, with those that shake hands.
        per_address: Of one address.
        held_bytes: Bytes of requests that aren't answered yet, of all connections.
        turns: Requests of one address that are worked on at once; the others wait, each for its turn.
    """

    connections: int
    per_address: int
    held_bytes: int
    turns: int


#: An API server has 200 requests that change something at work, by default, and keeps 25 idle connections.
ADMISSION_LIMITS: Final = Limits(connections=1000, per_address=250, held_bytes=24 << 20, turns=16)
#: A kubelet, and who collects metrics.
HEALTH_LIMITS: Final = Limits(connections=64, per_address=16, held_bytes=1 << 20, turns=4)


def do_nothing() -> None:
    """Have no connection to end."""


@dataclass(eq=False, slots=True)
class Share:
    """What one address holds.

    Attributes:
        turns: One is taken while a request is worked on.
        connections: How many there are.
        held_bytes: Of requests that aren't answered yet.
        waiting: Those that may be ended, because they wait for their peer or for a turn; who has waited for
            longest comes first.
    """

    turns: asyncio.Semaphore
    connections: int = 0
    held_bytes: int = 0
    waiting: dict["Place", None] = field(default_factory=dict)


@dataclass(eq=False, slots=True)
class Place:
    """What one connection holds.

    Attributes:
        address: Whose share it belongs to.
        share: That share.
        end: Ends the connection at once, whatever it is doing; set by who has accepted it.
        held_bytes: Of the request that isn't answered yet.
        is_taken: Until the connection has ended, or had to go.
    """

    address: str
    share: Share
    end: Callable[[], object] = do_nothing
    held_bytes: int = 0
    is_taken: bool = True

    @property
    def is_waiting(self) -> bool:
        """Return whether no request of it is worked on."""
        return self in self.share.waiting


class Connections:
    """All connections of one listener."""

    def __init__(self, limits: Limits, on_ended: Callable[[], None]) -> None:
        """Begin with none; ``on_ended`` is called for each that is ended or refused for want of room."""
        self._limits = limits
        self._on_ended = on_ended
        self._shares: dict[str, Share] = {}
        self._count = 0
        self._held_bytes = 0

    def admit(self, peer: str) -> Place | None:
        """Give a newcomer a place, for which another one may have to go; None if nobody can."""
        address = name_peer(peer)
        share = self._shares.get(address)
        while share and share.connections >= self._limits.per_address:
            if not self._end_one([share]):
                return None
        while self._count >= self._limits.connections:
            if not self._end_one(self._shares.values()):
                return None
        share = self._shares.setdefault(address, share or Share(asyncio.Semaphore(self._limits.turns)))
        place = Place(address, share)
        share.connections += 1
        share.waiting[place] = None
        self._count += 1
        return place

    def hold(self, place: Place, length: int) -> None:
        """Count bytes that have come; those who hold most may have to go for them, this one too."""
        place.held_bytes += length
        place.share.held_bytes += length
        self._held_bytes += length
        while self._held_bytes > self._limits.held_bytes:
            sharers = [
                share for share in self._shares.values() if any(one.held_bytes for one in share.waiting)
            ]
            if not sharers:
                return
            most = max(sharers, key=lambda share: share.held_bytes)
            self._end(next(one for one in most.waiting if one.held_bytes))

    def begin_work(self, place: Place) -> None:
        """Keep a connection while its request is worked on."""
        place.share.waiting.pop(place, None)

    def end_work(self, place: Place) -> None:
        """Let a connection wait for its next request."""
        if place.is_taken:
            self._forget_bytes(place)
            place.share.waiting[place] = None

    def leave(self, place: Place) -> None:
        """Free the place of a connection that has ended; freeing it twice does nothing."""
        if not place.is_taken:
            return
        place.is_taken = False
        # It leads back to the place: memory would stay until the next full garbage collection.
        place.end = do_nothing
        self._forget_bytes(place)
        place.share.waiting.pop(place, None)
        place.share.connections -= 1
        self._count -= 1
        if not place.share.connections:
            del self._shares[place.address]

    def _end_one(self, shares: Iterable[Share]) -> bool:
        """End who has waited for longest, of the share with most connections; return whether there is one."""
        candidates = [share for share in shares if share.waiting]
        if not candidates:
            self._on_ended()
            return False
        self._end(next(iter(max(candidates, key=lambda share: share.connections).waiting)))
        return True

    def _end(self, place: Place) -> None:
        end = place.end
        self.leave(place)
        self._on_ended()
        end()

    def _forget_bytes(self, place: Place) -> None:
        self._held_bytes -= place.held_bytes
        place.share.held_bytes -= place.held_bytes
        place.held_bytes = 0


def name_peer(peer: str) -> str:
    """Return what the share of a peer's address is called: of IPv6 its network."""
    address = ipaddress.ip_address(peer.partition("%")[0])
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((address, _IPV6_PREFIX), strict=False))
