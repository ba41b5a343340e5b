"""A pod's token is of no use elsewhere than in that pod."""

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from datakeys.contract.errors import UnrecognizedClientError
from datakeys.keyservice.authn.authenticator import ADDRESS_PENDING_SECONDS, NEGATIVE_SECONDS
from datakeys.keyservice.authn.pod_address import decide_addresses, find_host, is_from
from keyservice_rig import Clock, DispatchRig, pod

HOME, ELSEWHERE = "10.1.0.7:40000", "10.1.0.8:40000"


def pod_object(*addresses: str, uid: str = "uid-pod-app", **spec: Any) -> dict[str, Any]:
    status = {"podIPs": [{"ip": address} for address in addresses]} if addresses else {}
    return {"metadata": {"name": "pod-1", "uid": uid}, "spec": spec, "status": status}


@pytest.fixture
def rig(audit_file: Path) -> Iterator[DispatchRig]:
    fd = os.open(audit_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    rig = DispatchRig(fd, check_addresses=True)
    rig.issuer.clock = rig.rig.clock = Clock(time.time())
    rig.authenticator._wall_clock = rig.rig.clock
    yield rig
    rig.close()
    os.close(fd)


@pytest.fixture
def token(rig: DispatchRig) -> bytes:
    rig.issuer.pods["team-a", "pod-1"] = pod_object("10.1.0.7", "fd00::7")
    return rig.issuer.token("team-a", "app", in_pod=True).encode()


async def test_the_pod_itself_is_served_from_each_of_its_addresses(rig: DispatchRig, token: bytes) -> None:
    """Asked about or remembered, over IPv4 or IPv6."""
    assert (await rig.authenticator.authenticate(token, HOME)).pod_name == "pod-1"
    for peer in (HOME, "[fd00::7]:1", "[FD00:0:0::7]:1", "[::ffff:10.1.0.7]:1"):
        assert rig.authenticator.find_cached(token, peer) is not None


async def test_a_stolen_token_is_refused_like_garbage(
    rig: DispatchRig, token: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """First asked about by the thief, or remembered from its pod; the log names pod and address, no token."""
    with caplog.at_level(logging.WARNING), pytest.raises(UnrecognizedClientError):
        await rig.authenticator.authenticate(token, ELSEWHERE)
    with pytest.raises(UnrecognizedClientError):
        rig.authenticator.find_cached(token, ELSEWHERE)
    assert rig.authenticator.find_cached(token, HOME) is not None
    record = caplog.records[0].__dict__
    assert (record["pod"], record["address"]) == ("pod-1", "10.1.0.8")
    assert token.decode() not in str(record)


async def test_a_thief_does_not_make_the_cluster_be_asked_again_and_again(
    rig: DispatchRig, token: bytes
) -> None:
    """From a wrong address it is asked once in two seconds at most."""
    with pytest.raises(UnrecognizedClientError):
        await rig.authenticator.authenticate(token, ELSEWHERE)
    for _ in range(20):
        with pytest.raises(UnrecognizedClientError):
            rig.authenticator.find_cached(token, ELSEWHERE)
    assert rig.issuer.reviews == 1


async def test_a_pod_with_a_new_address_is_served_again(rig: DispatchRig, token: bytes) -> None:
    """Its sandbox was made anew; what was remembered is asked about again."""
    await rig.authenticator.authenticate(token, HOME)
    rig.issuer.pods["team-a", "pod-1"] = pod_object("10.1.0.8")
    rig.monotonic.now += NEGATIVE_SECONDS
    assert rig.authenticator.find_cached(token, ELSEWHERE) is None
    await rig.authenticator.authenticate(token, ELSEWHERE)
    with pytest.raises(UnrecognizedClientError):
        rig.authenticator.find_cached(token, HOME)


async def test_a_pod_whose_address_is_not_told_yet_is_served_for_a_moment(
    rig: DispatchRig, token: bytes
) -> None:
    """The sidecar is faster than the kubelet's report; the verdict ends with the next look."""
    rig.issuer.pods["team-a", "pod-1"] = pod_object()
    await rig.authenticator.authenticate(token, HOME)
    rig.issuer.pods["team-a", "pod-1"] = pod_object("10.1.0.7")
    rig.monotonic.now += ADDRESS_PENDING_SECONDS
    assert rig.authenticator.find_cached(token, HOME) is None
    await rig.authenticator.authenticate(token, HOME)
    with pytest.raises(UnrecognizedClientError):
        rig.authenticator.find_cached(token, ELSEWHERE)


@pytest.mark.parametrize("pods", [{}, {("team-a", "pod-1"): pod_object("10.1.0.7", uid="another")}])
async def test_a_pod_that_is_gone_is_nobody(rig: DispatchRig, token: bytes, pods: dict[Any, Any]) -> None:
    """Also if another pod has its name by now."""
    rig.issuer.pods = pods
    with pytest.raises(UnrecognizedClientError):
        await rig.authenticator.authenticate(token, HOME)


async def test_a_token_without_pod_has_no_address(rig: DispatchRig) -> None:
    """It is as good from anywhere; what it may do is the policy's business."""
    token = rig.issuer.token("team-a", "app").encode()
    assert (await rig.authenticator.authenticate(token, ELSEWHERE)).pod_name == ""


async def test_pods_on_the_host_network_are_not_told_apart(rig: DispatchRig, token: bytes) -> None:
    """They share their node's addresses, and the network may change those on the way."""
    rig.issuer.pods["team-a", "pod-1"] = pod_object("10.250.1.2", hostNetwork=True)
    await rig.authenticator.authenticate(token, ELSEWHERE)


@pytest.mark.parametrize(
    ("peer", "host"),
    [
        ("10.1.0.7:40000", "10.1.0.7"),
        ("[fd00:0:0::1]:1", "fd00::1"),
        ("[::ffff:10.1.0.7]:1", "10.1.0.7"),
        ("", ""),
        ("unix", ""),
        ("host:1", ""),
    ],
)
def test_hosts_of_peers(peer: str, host: str) -> None:
    """One spelling each; what is no address is no pod's."""
    assert find_host(peer) == host
    assert not is_from(peer, frozenset({"10.9.9.9"}))


def test_addresses_are_those_of_the_tokens_pod() -> None:
    """All of them, each in its shortest form."""
    found = decide_addresses(pod_object("10.1.0.7", "FD00::0:7", uid="uid-pod"), pod())
    assert found == frozenset(("10.1.0.7", "fd00::7"))
