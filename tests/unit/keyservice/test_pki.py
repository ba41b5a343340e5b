"""Certificates: two replicas agree, a new CA is known before it is used, renewal is in time."""

import asyncio
import base64
import json
import socket
import ssl
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from cryptography import x509

from cluster_api_fake import FakeClusterApi
from datakeys.contract.errors import DependencyTimeoutError
from datakeys.keyservice.pki.authority import (
    SECONDS_PER_DAY,
    Leaf,
    Lifetimes,
    build_generation,
    build_leaf,
    find_issuer,
    is_leaf_fit,
)
from datakeys.keyservice.pki.certificates import Certificates, build_dns_names
from datakeys.keyservice.pki.rotation import choose_issuer
from datakeys.keyservice.pki.tls import RenewalTask, build_server_context
from datakeys.keyservice.store.objects_api import CONFIG_MAPS, ObjectsApi
from keyservice_rig import Clock

NAMES = build_dns_names("datakeys-keyservice", "datakey-system")
YEAR = 365 * SECONDS_PER_DAY
LIFETIMES = Lifetimes()


@pytest.fixture
def clock() -> Clock:
    return Clock(time.time())


def build(api: FakeClusterApi, clock: Clock, monotonic: Clock | None = None) -> Certificates:
    """Return one replica's certificates; without a clock of its own, time passes alike by both clocks."""
    return Certificates(
        ObjectsApi(api, "datakey-system"),
        ObjectsApi(api, "datakey-system", CONFIG_MAPS),
        clock,
        monotonic or clock,
        LIFETIMES,
    )


@pytest.fixture
def certificates(api: FakeClusterApi, clock: Clock) -> Certificates:
    return build(api, clock)


def field(api: FakeClusterApi, secret: str, name: str) -> str:
    return base64.b64decode(api.secret(secret)["data"][name]).decode()


def bundle(api: FakeClusterApi) -> str:
    return str(api.objects["configmaps", "datakeys-trust-bundle"]["data"]["ca.crt"])


def handshake(server: ssl.SSLContext, ca: str, name: str) -> None:
    """Connect a verifying client to a server context."""
    client = ssl.create_default_context(cadata=ca)
    left, right = socket.socketpair()
    with left, right:
        thread = threading.Thread(target=lambda: server.wrap_socket(left, server_side=True).close())
        thread.start()
        try:
            with client.wrap_socket(right, server_hostname=name):
                pass
        finally:
            right.close()
            thread.join()


def test_everything_is_made(certificates: Certificates, api: FakeClusterApi) -> None:
    """CA, both leaves and the bundle exist afterwards; a second call writes nothing."""
    served = certificates.ensure()
    assert api.names() == ["datakeys-keyservice-tls", "datakeys-pki", "datakeys-webhook-tls"]
    for secret in ("datakeys-keyservice-tls", "datakeys-webhook-tls"):
        assert field(api, secret, "ca.crt") == bundle(api) == served.bundle
        assert api.secret(secret)["type"] == "kubernetes.io/tls"
    api.calls.clear()
    assert certificates.ensure() == served
    assert {method for method, _ in api.calls} == {"GET"}


@pytest.mark.parametrize("name", NAMES)
def test_clients_that_verify_are_content(certificates: Certificates, name: str) -> None:
    """The served certificate passes a default client under every name of the Service."""
    served = certificates.ensure()
    handshake(build_server_context(served.leaf), served.bundle, name)


def test_shape_of_the_certificates(certificates: Certificates, api: FakeClusterApi) -> None:
    """The CA may sign only leaves, the leaf may only serve; lives are ten years and ninety days."""
    served = certificates.ensure()
    ca = x509.load_pem_x509_certificate(served.bundle.encode())
    leaf = x509.load_pem_x509_certificate(served.leaf.certificate_pem.encode())
    constraints = ca.extensions.get_extension_for_class(x509.BasicConstraints)
    assert constraints.critical
    assert (constraints.value.ca, constraints.value.path_length) == (True, 0)
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    assert 3649 <= (ca.not_valid_after_utc - ca.not_valid_before_utc).days <= 3650
    assert 89 <= (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days <= 90
    assert "BEGIN" in field(api, "datakeys-webhook-tls", "tls.key")


def test_no_private_key_in_repr(certificates: Certificates) -> None:
    """Neither a leaf nor a CA shows its key."""
    served = certificates.ensure()
    generation = build_generation(1, LIFETIMES)
    assert "PRIVATE" not in repr(served) + repr(generation) + repr(served.leaf)


def test_leaf_is_renewed_at_two_thirds(certificates: Certificates, clock: Clock) -> None:
    """After sixty of ninety days there is a new leaf of the same CA, not before."""
    first = certificates.ensure()
    clock.now += 59 * SECONDS_PER_DAY
    assert certificates.ensure() == first
    clock.now += 2 * SECONDS_PER_DAY
    renewed = certificates.ensure()
    assert renewed.leaf != first.leaf
    assert renewed.bundle == first.bundle


def test_new_ca_is_published_a_week_before_it_signs(
    certificates: Certificates, clock: Clock, api: FakeClusterApi
) -> None:
    """After two thirds of ten years a second CA joins the bundle; leaves follow a week later."""
    old = certificates.ensure()
    clock.now += 10 * YEAR * 2 / 3 + SECONDS_PER_DAY
    overlapping = certificates.ensure()
    assert overlapping.bundle.startswith(old.bundle)
    assert overlapping.bundle.count("BEGIN CERTIFICATE") == 2
    generations = json.loads(field(api, "datakeys-pki", "generations.json"))
    first, second = (x509.load_pem_x509_certificate(item["certificate"].encode()) for item in generations)

    def issuer() -> x509.Name:
        leaf = certificates.ensure().leaf.certificate_pem
        return x509.load_pem_x509_certificate(leaf.encode()).issuer

    assert issuer() == first.subject
    clock.now += LIFETIMES.overlap
    assert issuer() == second.subject
    clock.now += 10 * YEAR
    certificates.ensure()
    assert old.bundle not in bundle(api)
    assert certificates.ensure().bundle == bundle(api)


def test_two_replicas_agree(certificates: Certificates, api: FakeClusterApi, clock: Clock) -> None:
    """Whoever loses a race takes over what the winner wrote."""
    rival = build(api, clock)
    served = []

    def race(method: str, _: str) -> None:
        if method == "POST":
            api.before = lambda _method, _path: None
            served.append(rival.ensure())

    api.before = race
    served.append(certificates.ensure())
    assert served[0] == served[1]


def test_endless_conflicts_end(certificates: Certificates, api: FakeClusterApi) -> None:
    """If a Secret or the ConfigMap never holds still, try again later."""
    certificates.ensure()

    def interfere(method: str, path: str) -> None:
        if method == "PUT":
            kind, name = path.split("/")[-2:]
            api.objects[kind, name]["metadata"]["resourceVersion"] += "1"

    api.before = interfere
    for kind, name in (("secrets", "datakeys-webhook-tls"), ("configmaps", "datakeys-trust-bundle")):
        api.objects[kind, name]["data"] = {}
        with pytest.raises(DependencyTimeoutError, match="concurrent"):
            certificates.ensure()


@pytest.mark.parametrize(
    "content", [None, {}, {"tls.crt": "%%%", "tls.key": "%%%"}, {"tls.crt": "eA==", "tls.key": "eA=="}]
)
def test_spoilt_leaf_is_replaced(
    certificates: Certificates, api: FakeClusterApi, content: dict[str, str] | None
) -> None:
    """A leaf Secret with nothing legible in it gets a new leaf."""
    certificates.ensure()
    api.secret("datakeys-keyservice-tls")["data"] = content
    served = certificates.ensure()
    assert field(api, "datakeys-keyservice-tls", "tls.crt") == served.leaf.certificate_pem


def test_foreign_leaf_does_not_fit(clock: Clock) -> None:
    """Another CA's leaf, other names, and no certificate at all don't fit."""
    ours, theirs = build_generation(clock.now, LIFETIMES), build_generation(clock.now, LIFETIMES)
    leaf = build_leaf(ours, NAMES, clock.now, LIFETIMES)
    assert is_leaf_fit(leaf, NAMES, clock.now)
    assert find_issuer(leaf, [theirs, ours], clock.now) == ours
    assert choose_issuer(leaf, NAMES, [ours], [], clock.now) is None
    assert choose_issuer(leaf, NAMES, [theirs], [], clock.now) == theirs
    assert not is_leaf_fit(leaf, NAMES[:1], clock.now)
    assert not is_leaf_fit(Leaf("x", "x"), NAMES, clock.now)
    other = build_leaf(ours, NAMES, clock.now, LIFETIMES)
    assert not is_leaf_fit(Leaf(leaf.certificate_pem, other.key_pem), NAMES, clock.now)


async def test_renewal_task(certificates: Certificates, clock: Clock, api: FakeClusterApi) -> None:
    """A changed leaf is served on new connections; an unreachable cluster is tried again."""
    served = certificates.ensure()
    context = build_server_context(served.leaf)
    with ThreadPoolExecutor(1) as executor:
        task = RenewalTask(certificates, context, served, executor, 600)
        assert await task.renew()
        assert task.expires_at == served.leaf.expires_at
        api.reachable = False
        assert not await task.renew()
        api.reachable = True
        clock.now += 61 * SECONDS_PER_DAY
        assert await task.renew()
        assert task.expires_at > served.leaf.expires_at


async def test_renewal_task_runs_until_cancelled(
    certificates: Certificates, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It looks again and again."""
    served = certificates.ensure()
    rounds = asyncio.Event()
    with ThreadPoolExecutor(1) as executor:
        task = RenewalTask(certificates, build_server_context(served.leaf), served, executor, 0.001)
        count = 0

        async def renew() -> bool:
            nonlocal count
            count += 1
            if count == 3:
                rounds.set()
            return True

        monkeypatch.setattr(task, "renew", renew)
        running = asyncio.ensure_future(task.run())
        await asyncio.wait_for(rounds.wait(), 60)
        running.cancel()
        with pytest.raises(asyncio.CancelledError):
            await running
