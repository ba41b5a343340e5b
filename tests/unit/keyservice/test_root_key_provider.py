"""The embedded root key: made once, never made anew over sealed records."""

import base64
import os
from dataclasses import replace
from typing import Any

import pytest

from cluster_api_fake import FakeClusterApi
from datakeys.contract.errors import DependencyTimeoutError
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.store import codec
from datakeys.keyservice.store.kubernetes_store import KubernetesStore
from datakeys.keyservice.store.objects_api import ObjectsApi
from datakeys.keyservice.store.records import AliasRecord
from datakeys.keyservice.store.root_key_provider import (
    ROOT_KEY_SECRET,
    EmbeddedRootKeyProvider,
    RootKeyError,
    check_root_key,
)
from datakeys.keyservice.store.watcher import Watcher
from keyservice_rig import Clock

CLUSTER = "prod"
ALIAS = AliasRecord("team-a", "alias/x", "00112233-4455-4677-8899-aabbccddeeff", 1, 1)


@pytest.fixture
def objects(api: FakeClusterApi) -> ObjectsApi:
    return ObjectsApi(api, "datakey-system")


def same(left: RootKey, right: RootKey) -> bool:
    return left.mac_record(b"x") == right.mac_record(b"x")


def test_created_once(objects: ObjectsApi, api: FakeClusterApi) -> None:
    """The first start makes an immutable Secret of 32 random bytes, the next one reads it."""
    first = EmbeddedRootKeyProvider(objects, os.urandom, CLUSTER).load()
    secret = api.secret(ROOT_KEY_SECRET)
    assert secret["immutable"] is True
    assert len(base64.b64decode(secret["data"]["key"])) == 32
    assert same(first, EmbeddedRootKeyProvider(objects, os.urandom, CLUSTER).load())


def test_another_cluster_name_is_refused(objects: ObjectsApi, api: FakeClusterApi) -> None:
    """Under another Region no ciphertext could be opened: it is told before anybody is answered so."""
    EmbeddedRootKeyProvider(objects, os.urandom, CLUSTER).load()
    with pytest.raises(RootKeyError, match="set it back to prod"):
        EmbeddedRootKeyProvider(objects, os.urandom, "other").load()
    del api.secret(ROOT_KEY_SECRET)["data"]["clusterName"]
    EmbeddedRootKeyProvider(objects, os.urandom, "other").load()


def test_two_replicas_start_at_once(objects: ObjectsApi, api: FakeClusterApi) -> None:
    """Who loses the create reads the winner's key."""
    winner: list[RootKey] = []

    def race(method: str, _: str) -> None:
        if method == "POST":
            api.before = lambda _method, _path: None
            winner.append(EmbeddedRootKeyProvider(objects, os.urandom, CLUSTER).load())

    api.before = race
    assert same(EmbeddedRootKeyProvider(objects, os.urandom, CLUSTER).load(), winner[0])


def test_records_without_root_key(objects: ObjectsApi, api: FakeClusterApi) -> None:
    """Sealed records and no root key: refuse to start, and make none."""
    objects.create(codec.encode(RootKey(b"r" * 32), ALIAS, "datakey-system"))
    with pytest.raises(RootKeyError, match="restore it from a backup"):
        EmbeddedRootKeyProvider(objects, os.urandom, CLUSTER).load()
    assert ROOT_KEY_SECRET not in api.names()


def test_wrong_root_key(objects: ObjectsApi) -> None:
    """A root key that opens none of the records is refused; one damaged record of many isn't fatal."""
    objects.create(codec.encode(RootKey(b"r" * 32), ALIAS, "datakey-system"))
    store = KubernetesStore(objects, RootKey(b"s" * 32))
    Watcher(objects, store.cache, Clock(0)).list_all()
    with pytest.raises(RootKeyError, match="isn't the root key"):
        check_root_key(store.cache.record_count, store.cache.broken_count, store.cache.newer_count)
    check_root_key(0, 0, 0)
    check_root_key(5, 1, 1)


def test_one_line_tells_of_all_broken_records(objects: ObjectsApi, caplog: pytest.LogCaptureFixture) -> None:
    """Under a wrong root key every record is broken; a log of thousands would hide the cause."""
    for number in range(30):
        sealed = codec.encode(RootKey(b"r" * 32), replace(ALIAS, name=f"alias/{number}"), "datakey-system")
        objects.create(sealed)
    store = KubernetesStore(objects, RootKey(b"s" * 32))
    objects.create(codec.encode(RootKey(b"s" * 32), ALIAS, "datakey-system"))
    Watcher(objects, store.cache, Clock(0)).list_all()
    assert (store.cache.record_count, store.cache.broken_count) == (1, 30)
    (line,) = [record for record in caplog.records if record.levelname == "ERROR"]
    assert (vars(line)["count"], len(vars(line)["secrets"])) == (30, 5)
    store.cache.apply({**sealed, "metadata": {**sealed["metadata"], "uid": "new", "resourceVersion": "999"}})
    assert vars(caplog.records[-1])["secrets"] == [sealed["metadata"]["name"]]


@pytest.mark.parametrize("data", [None, {}, {"key": "%"}, {"key": "AA=="}, {"key": 5}])
def test_malformed_secret(objects: ObjectsApi, data: Any) -> None:
    """A Secret that holds no root key of 32 bytes is refused, and its content isn't quoted."""
    objects.create({"metadata": {"name": ROOT_KEY_SECRET}, "data": data})
    with pytest.raises(RootKeyError) as caught:
        EmbeddedRootKeyProvider(objects, os.urandom, CLUSTER).load()
    assert "AA==" not in str(caught.value)


def test_secret_that_vanishes(objects: ObjectsApi, api: FakeClusterApi) -> None:
    """Taken at the create and gone at the read: try again later."""

    def race(method: str, _: str) -> None:
        if method == "POST":
            objects_made = EmbeddedRootKeyProvider(objects, os.urandom, CLUSTER)
            api.before = lambda _method, _path: None
            objects_made.load()
            api.before = vanish

    def vanish(method: str, _: str) -> None:
        if method == "GET":
            api.before = lambda _method, _path: None
            api.drop(ROOT_KEY_SECRET)

    api.before = race
    with pytest.raises(DependencyTimeoutError):
        EmbeddedRootKeyProvider(objects, os.urandom, CLUSTER).load()
