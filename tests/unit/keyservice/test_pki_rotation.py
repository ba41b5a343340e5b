"""Rotation of CAs: whatever happens, a client with an old bundle and one with a new bundle both connect.

Time is an argument everywhere: years pass in milliseconds. A verifier of RFC 5280 paths checks the chains.
"""

import base64
import datetime as dt
import json
import time
from collections.abc import Iterator

import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from cluster_api_fake import FakeClusterApi
from datakeys.contract.errors import DependencyTimeoutError
from datakeys.keyservice.pki.authority import SECONDS_PER_DAY, Leaf, Lifetimes
from datakeys.keyservice.pki.certificates import Certificates, Served
from datakeys.keyservice.pki.rotation import PROPAGATION_SECONDS
from datakeys.keyservice.pki.tls import find_pause
from datakeys.keyservice.store.objects_api import CONFIG_MAPS, ObjectsApi
from keyservice_rig import Clock

HOST = "datakeys-keyservice.datakey-system.svc"
#: Long enough for a simulation to see every phase, short enough to see it in steps of half a minute.
SHORT = Lifetimes(ca=6 * 3600, leaf=3600, overlap=900)
USUAL = Lifetimes()
YEAR = 365 * SECONDS_PER_DAY
CA_RENEWAL = USUAL.ca * 2 / 3 + SECONDS_PER_DAY


class Replica:
    """A key service process: what it serves, and clocks of its own."""

    def __init__(self, api: FakeClusterApi, clock: Clock, lifetimes: Lifetimes = USUAL) -> None:
        self.clock, self.monotonic = clock, Clock(0.0)
        self.api = api
        self.certificates = Certificates(
            ObjectsApi(api, "datakey-system"),
            ObjectsApi(api, "datakey-system", CONFIG_MAPS),
            clock,
            self.monotonic,
            lifetimes,
        )
        self.served: Served | None = None

    def look(self) -> Served:
        """Do what the renewal task does."""
        self.served = self.certificates.ensure()
        return self.served

    def wait(self, seconds: float) -> Served:
        """Let time pass by both clocks, then look; looks in between, as the task does, count as seen."""
        self.look()
        self.clock.now += seconds
        self.monotonic.now += seconds
        return self.look()


@pytest.fixture
def clock() -> Clock:
    """Start now."""
    return Clock(time.time())


@pytest.fixture
def replica(api: FakeClusterApi, clock: Clock) -> Replica:
    """Give a process with the usual lifetimes, which has made everything."""
    made = Replica(api, clock)
    made.look()
    return made


def trusts(bundle: str, leaf: Leaf, now: float, host: str = HOST) -> bool:
    """Return whether a client with this bundle accepts a server with this leaf at this time."""
    roots = Store(x509.load_pem_x509_certificates(bundle.encode()))
    moment = dt.datetime.fromtimestamp(now, dt.UTC)
    verifier = PolicyBuilder().store(roots).time(moment).build_server_verifier(x509.DNSName(host))
    try:
        verifier.verify(x509.load_pem_x509_certificate(leaf.certificate_pem.encode()), [])
    except VerificationError:
        return False
    return True


def published(api: FakeClusterApi) -> str:
    """Return the trust bundle in the cluster."""
    return str(api.objects["configmaps", "datakeys-trust-bundle"]["data"]["ca.crt"])


def webhook_leaf(api: FakeClusterApi) -> tuple[Leaf, str]:
    """Return the webhook's leaf, and the bundle beside it."""
    data = api.secret("datakeys-webhook-tls")["data"]
    certificate, key, bundle = (
        base64.b64decode(data[name]).decode() for name in ("tls.crt", "tls.key", "ca.crt")
    )
    return Leaf(certificate, key), bundle


def issuer(leaf: Leaf) -> x509.Name:
    """Return the name of the CA that has signed a leaf."""
    return x509.load_pem_x509_certificate(leaf.certificate_pem.encode()).issuer


def steps(clock: Clock, replicas: list[Replica], seconds: float, step: float) -> Iterator[int]:
    """Let time pass for everybody alike."""
    for number in range(int(seconds / step)):
        clock.now += step
        for replica in replicas:
            replica.monotonic.now += step
        yield number


def test_old_and_new_bundles_work_at_every_instant_of_two_rotations(
    api: FakeClusterApi, clock: Clock
) -> None:
    """Two replicas look at different times; clients see the bundle at once, or up to five minutes late."""
    replicas = [Replica(api, clock, SHORT) for _ in range(2)]
    for replica in replicas:
        replica.look()
    step, delays = 30.0, (0, 60, 120, PROPAGATION_SECONDS)
    history, issuers = [published(api)] * (int(max(delays) / step) + 1), set()
    for number in steps(clock, replicas, 2.2 * SHORT.ca, step):
        if number % 3 < 2:
            replicas[number % 3].look()
        history.append(published(api))
        webhook, webhook_bundle = webhook_leaf(api)
        for delay in delays:
            seen = history[-1 - int(delay / step)]
            for replica in replicas:
                assert replica.served is not None
                assert trusts(seen, replica.served.leaf, clock.now), (number, delay)
            assert trusts(seen, webhook, clock.now, "datakeys-webhook.datakey-system.svc")
        assert trusts(webhook_bundle, webhook, clock.now, "datakeys-webhook.datakey-system.svc")
        issuers.add(issuer(webhook))
    assert len(issuers) >= 3


def test_simulation_would_notice_a_missing_overlap(api: FakeClusterApi, clock: Clock) -> None:
    """The check above can fail: a leaf of a CA that a client hasn't heard of isn't trusted."""
    before = Replica(api, clock).look()
    for name in list(api.names()):
        api.drop(name)
    after = Replica(api, clock).look()
    assert not trusts(before.bundle, after.leaf, clock.now)
    assert trusts(after.bundle, after.leaf, clock.now)


def test_overlap_counts_from_the_publication(replica: Replica, api: FakeClusterApi, clock: Clock) -> None:
    """A CA that couldn't be published for a month signs a week after it was, not before."""
    first = replica.look()
    clock.now += CA_RENEWAL

    def refuse(method: str, path: str) -> None:
        if method == "PUT" and "configmaps" in path:
            raise DependencyTimeoutError("not now")

    api.before = refuse
    for _ in range(30):
        clock.now += SECONDS_PER_DAY
        replica.monotonic.now += SECONDS_PER_DAY
        with pytest.raises(DependencyTimeoutError):
            replica.look()
    assert len(json.loads(base64.b64decode(api.secret("datakeys-pki")["data"]["generations.json"]))) == 2
    api.before = lambda _method, _path: None
    assert trusts(first.bundle, replica.look().leaf, clock.now)
    assert issuer(replica.wait(USUAL.overlap - 60).leaf) == issuer(first.leaf)
    assert issuer(replica.wait(120).leaf) != issuer(first.leaf)


def test_clock_that_jumps_ahead_does_not_shorten_the_overlap(replica: Replica, clock: Clock) -> None:
    """A week by the wall clock is no week if this process has seen the CA published for a second."""
    clock.now += CA_RENEWAL
    first = replica.look()
    replica.monotonic.now += 1
    clock.now += 10 * SECONDS_PER_DAY
    assert issuer(replica.look().leaf) == issuer(first.leaf)
    replica.monotonic.now += PROPAGATION_SECONDS
    assert issuer(replica.look().leaf) != issuer(first.leaf)


def test_clock_that_was_wrong_for_a_while_leaves_everything_usable(
    replica: Replica, api: FakeClusterApi, clock: Clock
) -> None:
    """Eleven years ahead the CA looks expired; it stays in the bundle, and signs again in the right time."""
    first = replica.look()
    now = clock.now
    clock.now += 11 * YEAR
    wrong = replica.look()
    assert trusts(wrong.bundle, wrong.leaf, clock.now)
    clock.now = now + 60
    healed = replica.look()
    assert trusts(first.bundle, healed.leaf, clock.now)
    assert trusts(published(api), healed.leaf, clock.now)
    assert replica.look() == healed


def test_clock_that_goes_back_before_the_certificates(
    replica: Replica, api: FakeClusterApi, clock: Clock
) -> None:
    """What isn't valid yet by this clock is made again; what clients trust stays in the bundle."""
    first = replica.look()
    clock.now -= YEAR
    back = replica.look()
    assert trusts(back.bundle, back.leaf, clock.now)
    clock.now += YEAR
    assert first.bundle in published(api)
    replica.look()
    assert trusts(published(api), replica.look().leaf, clock.now)


def test_replicas_with_different_clocks_come_to_rest(
    replica: Replica, api: FakeClusterApi, clock: Clock
) -> None:
    """An hour apart, neither undoes the other's work for ever."""
    late = Replica(api, Clock(clock.now - 3600))
    for _ in range(3):
        late.look()
        replica.look()
    api.calls.clear()
    late.look()
    replica.look()
    assert [method for method, _ in api.calls if method != "GET"] == []


def test_deleted_ca_is_replaced_without_a_break(replica: Replica, api: FakeClusterApi, clock: Clock) -> None:
    """The key is lost: its leaf goes on, a new CA is published beside it, and signs after the overlap."""
    first = replica.look()
    api.drop("datakeys-pki")
    after = replica.look()
    assert after.leaf == first.leaf
    assert after.bundle.startswith(first.bundle)
    assert after.bundle.count("BEGIN CERTIFICATE") == 2
    assert trusts(published(api), first.leaf, clock.now)
    assert replica.wait(USUAL.overlap - 60).leaf == first.leaf
    renewed = replica.wait(120)
    assert issuer(renewed.leaf) != issuer(first.leaf)
    assert trusts(after.bundle, renewed.leaf, clock.now)


@pytest.mark.parametrize(
    "content", ["", "%%%", "bm8ganNvbg==", "W3t9XQ==", "W3siY2VydGlmaWNhdGUiOiJ4Iiwia2V5IjoieSJ9XQ=="]
)
def test_spoilt_ca_is_a_lost_ca(replica: Replica, api: FakeClusterApi, content: str) -> None:
    """Neither the process nor its clients suffer from a Secret that can't be read."""
    first = replica.look()
    api.secret("datakeys-pki")["data"] = {"generations.json": content}
    after = replica.look()
    assert after.leaf == first.leaf
    assert after.bundle.count("BEGIN CERTIFICATE") == 2


def test_spoilt_key_is_a_lost_key(replica: Replica, api: FakeClusterApi, clock: Clock) -> None:
    """The CA stays trusted and signs no more; another one takes its place."""
    first = replica.look()
    (stored,) = json.loads(base64.b64decode(api.secret("datakeys-pki")["data"]["generations.json"]))
    stored["key"] = first.leaf.key_pem
    text = base64.b64encode(json.dumps([stored]).encode()).decode()
    api.secret("datakeys-pki")["data"] = {"generations.json": text}
    after = replica.look()
    assert after.leaf == first.leaf
    assert after.bundle.count("BEGIN CERTIFICATE") == 2
    renewed = replica.wait(USUAL.overlap + 60)
    assert issuer(renewed.leaf) != issuer(first.leaf)
    assert trusts(after.bundle, renewed.leaf, clock.now)


def test_everything_deleted_is_a_new_start(replica: Replica, api: FakeClusterApi, clock: Clock) -> None:
    """Nobody can be spared then; what is made is whole."""
    for name in list(api.names()):
        api.drop(name)
    del api.objects["configmaps", "datakeys-trust-bundle"]
    served = replica.look()
    assert trusts(published(api), served.leaf, clock.now)


def test_deleted_leaf_comes_back_from_the_same_ca(
    replica: Replica, api: FakeClusterApi, clock: Clock
) -> None:
    """In the overlap too: then the CA signs that everybody knows."""
    first = replica.look()
    clock.now += CA_RENEWAL
    replica.look()
    api.drop("datakeys-keyservice-tls")
    again = replica.look()
    assert again.leaf != first.leaf
    assert issuer(again.leaf) == issuer(first.leaf)
    assert trusts(first.bundle, again.leaf, clock.now)


def test_deleted_bundle_comes_back(replica: Replica, api: FakeClusterApi) -> None:
    """At the next look."""
    first = replica.look()
    del api.objects["configmaps", "datakeys-trust-bundle"]
    replica.look()
    assert published(api) == first.bundle


@pytest.mark.parametrize("number", range(1, 7))
def test_slow_replica_never_takes_back_a_newer_bundle(
    replica: Replica, api: FakeClusterApi, clock: Clock, number: int
) -> None:
    """Before any of its calls the other replica may make and publish a new CA; it stays published."""
    other = Replica(api, clock)
    other.look()
    api.objects["configmaps", "datakeys-trust-bundle"]["data"] = {}
    calls = 0

    def overtake(_method: str, _path: str) -> None:
        nonlocal calls
        calls += 1
        if calls == number:
            clock.now += CA_RENEWAL
            other.look()

    api.before = overtake
    replica.look()
    assert calls >= number
    api.before = lambda _method, _path: None
    assert published(api).count("BEGIN CERTIFICATE") == 2


def test_certificate_of_cert_manager_is_left_alone(api: FakeClusterApi, clock: Clock) -> None:
    """The webhook's Secret is neither written nor read then, be it there or not."""
    certificates = Certificates(
        ObjectsApi(api, "datakey-system"),
        ObjectsApi(api, "datakey-system", CONFIG_MAPS),
        clock,
        clock,
        USUAL,
        with_webhook=False,
    )
    served = certificates.ensure()
    assert api.names() == ["datakeys-keyservice-tls", "datakeys-pki"]
    api.drop("datakeys-pki")
    assert certificates.ensure().leaf == served.leaf
    assert not [path for _, path in api.calls if path.endswith("datakeys-webhook-tls")]


def test_lifetimes_that_would_break_a_rotation_are_refused() -> None:
    """A leaf must not outlive its CA, and a CA not end before its successor signs."""
    for wrong in ((100, 50, 10), (100, 30, 20), (100, 0, 10), (100, 30, 0)):
        with pytest.raises(ValueError, match="3 times as long"):
            Lifetimes(*wrong)


def test_pause_fits_the_lifetimes() -> None:
    """Ten minutes usually; often enough to renew in time if certificates live for minutes."""
    assert find_pause(USUAL) == 600
    assert find_pause(SHORT) == 45
    assert find_pause(Lifetimes(60, 10, 5)) == 0.5
