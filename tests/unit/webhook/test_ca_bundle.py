"""The caBundle of the webhook configuration."""

import base64
from typing import Any

import pytest

from datakeys.webhook.ca_bundle import CaBundleKeeper, decide_patch

OLD = "-----BEGIN CERTIFICATE-----\nT0xE\n-----END CERTIFICATE-----\n"
NEW = "-----BEGIN CERTIFICATE-----\nTkVX\n-----END CERTIFICATE-----\n"


def encode(pem: str) -> str:
    """Return a bundle as it stands in the configuration."""
    return base64.b64encode(pem.encode()).decode()


class FakeConfiguration:
    """A MutatingWebhookConfiguration in memory."""

    def __init__(self, *bundles: str) -> None:
        self.bundles = list(bundles)
        self.patches: list[list[dict[str, Any]]] = []
        self.error: Exception | None = None

    def get_ca_bundles(self) -> list[str]:
        """Return the bundles."""
        if self.error:
            raise self.error
        return self.bundles

    def patch_configuration(self, patch: list[dict[str, Any]]) -> None:
        """Apply a patch."""
        self.patches.append(patch)
        for operation in patch:
            self.bundles[int(operation["path"].split("/")[2])] = operation["value"]


@pytest.mark.parametrize(
    ("present", "pem", "changed", "patched"),
    [
        ([""], OLD, True, [0]),
        ([""], OLD, False, [0]),
        (["%%%"], OLD, False, [0]),
        ([encode(OLD)], OLD, True, []),
        ([encode(OLD)], OLD, False, []),
        ([encode(OLD + NEW)], OLD, True, [0]),
        ([encode(OLD + NEW)], OLD, False, []),
        ([encode(NEW)], OLD, False, [0]),
        ([encode(OLD), ""], OLD, False, [1]),
        ([encode(NEW), encode(NEW)], OLD + NEW, False, [0, 1]),
    ],
)
def test_bundle_is_set_where_it_has_to_be(
    present: list[str], pem: str, changed: bool, patched: list[int]
) -> None:
    """New files set their bundle exactly; afterwards a bundle with more certificates is left alone."""
    patch = decide_patch(present, pem, changed=changed)
    assert patch == [
        {"op": "add", "path": f"/webhooks/{index}/clientConfig/caBundle", "value": encode(pem)}
        for index in patched
    ]


def test_keeper_writes_only_on_difference() -> None:
    """The second comparison writes nothing; a bundle that somebody removed comes back."""
    configuration = FakeConfiguration("")
    keeper = CaBundleKeeper(configuration)
    assert not keeper.is_done(OLD)
    assert [keeper.sync(OLD) for _ in range(3)] == [True, False, False]
    assert keeper.is_done(OLD)
    configuration.bundles[0] = ""
    assert keeper.sync(OLD)
    assert configuration.bundles == [encode(OLD)]


def test_two_replicas_do_not_fight_while_the_secret_arrives() -> None:
    """The one that sees the renewed Secret later takes nothing away; in the end both agree."""
    configuration = FakeConfiguration("")
    early, late = CaBundleKeeper(configuration), CaBundleKeeper(configuration)
    early.sync(OLD)
    late.sync(OLD)
    early.sync(OLD + NEW)
    assert not late.sync(OLD)
    assert not late.sync(OLD + NEW)
    early.sync(NEW)
    late.sync(NEW)
    assert configuration.bundles == [encode(NEW)]


def test_configuration_without_webhooks_is_an_error() -> None:
    """Nothing to set isn't the same as all set."""
    keeper = CaBundleKeeper(FakeConfiguration())
    with pytest.raises(LookupError):
        keeper.sync(OLD)
    assert not keeper.is_done(OLD)
