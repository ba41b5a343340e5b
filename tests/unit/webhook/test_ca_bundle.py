"""The caBundle of the webhook configuration."""

import base64
from typing import Any

import pytest

from datakeys.webhook.ca_bundle import TIDY_SECONDS, CaBundleKeeper, decide_patch

OLD = "-----BEGIN CERTIFICATE-----\nT0xE\n-----END CERTIFICATE-----\n"
NEW = "-----BEGIN CERTIFICATE-----\nTkVX\n-----END CERTIFICATE-----\n"


def encode(pem: str) -> str:
    """Return a bundle as it stands in the configuration."""
    return base64.b64encode(pem.encode()).decode()


class FakeConfiguration:
    """A MutatingWebhookConfiguration in memory, which applies JSON patches as the API server does."""

    def __init__(self, *bundles: str) -> None:
        self.bundles = list(bundles)
        self.patches: list[list[dict[str, Any]]] = []
        self.error: Exception | None = None

    def get_ca_bundles(self) -> list[str]:
        """Return the bundles."""
        if self.error:
            raise self.error
        return list(self.bundles)

    def patch_configuration(self, patch: list[dict[str, Any]]) -> None:
        """Apply a patch, all or nothing."""
        self.patches.append(patch)
        bundles = list(self.bundles)
        for operation in patch:
            index = int(operation["path"].split("/")[2])
            if operation["op"] == "add":
                bundles[index] = operation["value"]
            elif bundles[index] != operation["value"]:
                raise ConnectionError("test failed")
        self.bundles = bundles


class Clock:
    """A clock that moves only when told."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.mark.parametrize(
    ("present", "pem", "tidy", "bundles"),
    [
        ([""], OLD, False, [OLD]),
        ([""], OLD, True, [OLD]),
        (["%%%"], OLD, False, [OLD]),
        ([encode("no certificate")], OLD, False, [OLD]),
        ([encode(OLD)], OLD, False, None),
        ([encode(OLD)], OLD, True, None),
        ([encode(OLD + NEW)], OLD, False, None),
        ([encode(OLD + NEW)], OLD, True, [OLD]),
        ([encode(NEW)], OLD, False, [NEW + OLD]),
        ([encode(NEW)], OLD + NEW, False, [NEW + OLD]),
        ([encode(OLD), ""], OLD, False, [OLD, OLD]),
        ([encode(NEW), encode(OLD)], OLD + NEW, True, [OLD + NEW, OLD + NEW]),
    ],
)
def test_bundle_is_set_where_it_has_to_be(
    present: list[str], pem: str, bundles: list[str] | None, *, tidy: bool
) -> None:
    """What is missing is added; what others need goes only when it is time to tidy up."""
    configuration = FakeConfiguration(*present)
    patch = decide_patch(present, pem, tidy=tidy)
    assert bool(patch) == (bundles is not None)
    if bundles is not None:
        configuration.patch_configuration(patch)
        assert configuration.bundles == [encode(bundle) for bundle in bundles]


def keep(
    configuration: FakeConfiguration, *, clock: Clock | None = None, managed: bool = True
) -> CaBundleKeeper:
    """Return the keeper of one replica."""
    return CaBundleKeeper(configuration, managed=managed, clock=clock or Clock())


def test_keeper_writes_only_on_difference() -> None:
    """The second comparison writes nothing; a bundle that somebody removed comes back."""
    configuration = FakeConfiguration("")
    keeper = keep(configuration)
    assert keeper.trusted_seconds(OLD) is None
    assert [keeper.sync(OLD) for _ in range(3)] == [True, False, False]
    assert keeper.trusted_seconds(OLD) is not None
    configuration.bundles[0] = ""
    assert keeper.sync(OLD)
    assert configuration.bundles == [encode(OLD)]


def test_two_replicas_do_not_fight_while_the_secret_arrives() -> None:
    """No overlap, one replica minutes behind: both are trusted until both have the new files."""
    configuration, clock = FakeConfiguration(""), Clock()
    early, late = keep(configuration, clock=clock), keep(configuration, clock=clock)
    for keeper in (early, late):
        keeper.sync(OLD)
    clock.now += 10 * TIDY_SECONDS
    for keeper in (early, late):
        keeper.sync(OLD)
    early.sync(NEW)
    for _ in range(5):
        clock.now += 30
        assert not late.sync(OLD)
        assert not early.sync(NEW)
        assert configuration.bundles == [encode(OLD + NEW)]
    late.sync(NEW)
    clock.now += TIDY_SECONDS
    assert early.sync(NEW)
    assert not late.sync(NEW)
    assert configuration.bundles == [encode(NEW)]


def test_pending_certificates_are_added_and_nothing_is_tidied_meanwhile() -> None:
    """The next certificate's authority joins the one in service."""
    configuration, clock = FakeConfiguration(encode(OLD)), Clock()
    keeper = keep(configuration, clock=clock)
    keeper.sync(OLD)
    clock.now += 2 * TIDY_SECONDS
    keeper.sync(OLD, NEW)
    assert configuration.bundles == [encode(OLD + NEW)]
    assert keeper.trusted_seconds(NEW) == 0
    assert keeper.trusted_seconds(OLD) == 2 * TIDY_SECONDS
    clock.now += 7
    keeper.sync(OLD, NEW)
    assert keeper.trusted_seconds(OLD + NEW) == 7


def test_two_replicas_that_write_at_once_lose_nothing() -> None:
    """The patch says what it was made from; the API server refuses it if that has changed."""
    configuration = FakeConfiguration(encode(OLD))
    patch = decide_patch(configuration.get_ca_bundles(), NEW, tidy=True)
    configuration.bundles = [encode(OLD + NEW)]
    with pytest.raises(ConnectionError):
        configuration.patch_configuration(patch)
    assert configuration.bundles == [encode(OLD + NEW)]


def test_bundle_of_somebody_else_is_only_read() -> None:
    """cert-manager sets it; this process sees when it is there, and when it isn't any more."""
    configuration, clock = FakeConfiguration(""), Clock()
    keeper = keep(configuration, clock=clock, managed=False)
    assert not keeper.sync(OLD, NEW)
    assert keeper.trusted_seconds(OLD) is None
    configuration.bundles = [encode(OLD)]
    keeper.sync(OLD, NEW)
    clock.now += 3
    assert keeper.trusted_seconds(OLD) == 3
    assert keeper.trusted_seconds(NEW) is None
    configuration.bundles = [encode(NEW)]
    keeper.sync(OLD, NEW)
    assert keeper.trusted_seconds(OLD) is None
    assert configuration.patches == []


def test_bundle_counts_only_if_every_webhook_has_it() -> None:
    """The configuration has several webhooks."""
    configuration = FakeConfiguration(encode(OLD), encode(NEW))
    keeper = keep(configuration, managed=False)
    keeper.sync(OLD)
    assert keeper.trusted_seconds(OLD) is None


def test_configuration_without_webhooks_is_an_error() -> None:
    """Nothing to set isn't the same as all set."""
    keeper = keep(FakeConfiguration())
    with pytest.raises(LookupError):
        keeper.sync(OLD)
    assert keeper.trusted_seconds(OLD) is None
