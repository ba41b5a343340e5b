"""From where a pod's token may come: from the addresses of that pod. Pure.

Zone: no tokens. A bearer token opens for whoever holds it; the address tells a thief in another pod from the
pod itself. Source: Kubernetes API, core/v1 PodStatus, ``podIPs``.
"""

from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv6Address, ip_address
from typing import Any

from datakeys.contract.errors import UnrecognizedClientError
from datakeys.keyservice.authz.principal import Principal


def decide_addresses(pod: Mapping[str, Any] | None, principal: Principal) -> frozenset[str] | None:
    """Return the addresses that a pod calls from; None if it shares them with its node, which proves nothing.

    Empty if the kubelet hasn't told them yet: a sidecar may be a second faster than that.

    Args:
        pod: The pod of the token's name; None if there is none.
        principal: The token's owner, a pod.

    Raises:
        UnrecognizedClientError: That pod is gone; another one may have its name.
    """
    if pod is None or pod["metadata"]["uid"] != principal.pod_uid:
        raise UnrecognizedClientError
    if pod["spec"].get("hostNetwork"):
        return None
    found = (pod.get("status") or {}).get("podIPs") or []
    return frozenset(str(ip_address(one["ip"])) for one in found if one.get("ip"))


def is_from(peer: str, addresses: frozenset[str] | None) -> bool:
    """Return whether a peer, ``address:port``, has one of the addresses; yes if they are not known."""
    return not addresses or find_host(peer) in addresses


@lru_cache(maxsize=8192)
def find_host(peer: str) -> str:
    """Return the address of a peer in its shortest form; empty if there is none."""
    host = peer.rpartition(":")[0].strip("[]")
    try:
        address = ip_address(host)
    except ValueError:
        return ""
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return str(mapped or address)
