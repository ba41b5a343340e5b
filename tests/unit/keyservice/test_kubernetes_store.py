"""The store on Secrets: atomic, authenticated, up to date, and steady when the API isn't."""

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest

from cluster_api_fake import FakeClusterApi
from datakeys.contract.errors import (
    AlreadyExistsError,
    DependencyTimeoutError,
    IntegrityError,
    NotFoundError,
)
from datakeys.contract.key_types import KeyOrigin, KeySpec, KeyState, KeyUsage
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.store import codec
from datakeys.keyservice.store import watcher as watcher_module
from datakeys.keyservice.store.grant_record import GrantRecord
from datakeys.keyservice.store.interface import KeyStore
from datakeys.keyservice.store.kubernetes_store import KubernetesStore
from datakeys.keyservice.store.memory import MemoryStore
from datakeys.keyservice.store.objects_api import ExpiredError, ObjectsApi
from datakeys.keyservice.store.records import AliasRecord, KeyRecord, MaterialRecord
from datakeys.keyservice.store.watcher import Watcher
from keyservice_rig import START, Clock

KEY_ID = "00112233-4455-4677-8899-aabbccddeeff"
ROOT = RootKey(b"r" * 32)


def key(key_id: str = KEY_ID, **facts: Any) -> KeyRecord:
    base = KeyRecord(
        key_id=key_id,
        account="team-a",
        key_spec=KeySpec.SYMMETRIC_DEFAULT,
        key_usage=KeyUsage.ENCRYPT_DECRYPT,
        origin=KeyOrigin.AWS_KMS,
        state=KeyState.ENABLED,
        created_at=START,
        current_material_id="ab" * 32,
        materials=(MaterialRecord("ab" * 32, bytes(77), START),),
        tags=(("k", "v"),),
    )
    return replace(base, **facts)


def alias(name: str = "alias/x", key_id: str = KEY_ID) -> AliasRecord:
    return AliasRecord("team-a", name, key_id, START, START)


def grant(grant_id: str = "cd" * 32, key_id: str = KEY_ID) -> GrantRecord:
    return GrantRecord(
        grant_id,
        key_id,
        "team-a",
        "system:serviceaccount:team-a:app",
        frozenset({"Decrypt"}),
        START,
        context_subset={"a": "1"},
    )


def disabled(record: KeyRecord) -> KeyRecord:
    return replace(record, state=KeyState.DISABLED)


def new_id() -> str:
    digits = os.urandom(16).hex()
    return f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"


@pytest.fixture
def objects(api: FakeClusterApi) -> ObjectsApi:
    return ObjectsApi(api, "datakey-system")


@pytest.fixture
def store(objects: ObjectsApi) -> KubernetesStore:
    return KubernetesStore(objects, ROOT, Clock(0))


@pytest.fixture
def replica(objects: ObjectsApi) -> KubernetesStore:
    """Return the store of another process on the same cluster; its cache is empty."""
    return KubernetesStore(objects, ROOT, Clock(0))


def sync(store: KubernetesStore, objects: ObjectsApi) -> str:
    return Watcher(objects, store.cache, Clock(0)).list_all()


@pytest.fixture(params=["memory", "kubernetes"])
def any_store(request: pytest.FixtureRequest, store: KubernetesStore) -> KeyStore:
    """Return each kind of store: they must not differ."""
    return MemoryStore() if request.param == "memory" else store


class TestEveryStore:
    """What both stores do alike."""

    def test_keys(self, any_store: KeyStore) -> None:
        """Create, find, count, change, and see the change at once."""
        assert any_store.create_key(key()) == key()
        assert any_store.find_key(KEY_ID) == any_store.refresh_key(KEY_ID) == key()
        assert any_store.count_keys("team-a") == 1
        assert any_store.update_key(KEY_ID, disabled).state is KeyState.DISABLED
        assert any_store.update_key(KEY_ID, disabled).state is KeyState.DISABLED
        assert any_store.find_key(KEY_ID) == disabled(key())
        assert any_store.find_key(new_id()) is None
        assert any_store.refresh_key(new_id()) is None

    def test_object_names(self, any_store: KeyStore) -> None:
        """A second key of the same object is the first one."""
        first = any_store.create_key(key(object_name="main"))
        assert any_store.create_key(key(new_id(), object_name="main")) == first
        assert any_store.create_key(key(new_id(), object_name="main", account="team-b")) != first
        assert any_store.count_keys("team-a") == 1

    def test_change_that_is_refused(self, any_store: KeyStore) -> None:
        """An error of the change leaves the record as it was."""
        any_store.create_key(key())

        def refuse(_: KeyRecord) -> KeyRecord:
            raise AlreadyExistsError("no")

        with pytest.raises(AlreadyExistsError):
            any_store.update_key(KEY_ID, refuse)
        assert any_store.find_key(KEY_ID) == key()
        with pytest.raises(NotFoundError):
            any_store.update_key(new_id(), disabled)

    def test_aliases(self, any_store: KeyStore) -> None:
        """Create, list, move, delete; names are unique."""
        any_store.create_alias(alias("alias/b"))
        any_store.create_alias(alias("alias/a"))
        with pytest.raises(AlreadyExistsError):
            any_store.create_alias(alias("alias/a"))
        assert [item.name for item in any_store.list_aliases("team-a")] == ["alias/a", "alias/b"]
        assert any_store.list_aliases("team-b") == []
        moved = any_store.update_alias("team-a", "alias/a", lambda old: replace(old, key_id=new_id()))
        assert any_store.find_alias("team-a", "alias/a") == moved
        any_store.delete_alias("team-a", "alias/a")
        assert any_store.find_alias("team-a", "alias/a") is None
        assert any_store.find_alias("team-b", "alias/a") is None
        for call in (
            lambda: any_store.delete_alias("team-a", "alias/a"),
            lambda: any_store.update_alias("team-a", "alias/a", lambda old: old),
        ):
            with pytest.raises(NotFoundError):
                call()

    def test_grants(self, any_store: KeyStore) -> None:
        """Create, create again, list, delete."""
        assert any_store.create_grant(grant()) == any_store.create_grant(grant()) == grant()
        assert list(any_store.list_grants(KEY_ID)) == [grant()]
        assert any_store.list_grants(new_id()) == ()
        assert any_store.find_grant(new_id(), "cd" * 32) is None
        any_store.delete_grant(KEY_ID, "cd" * 32)
        assert any_store.find_grant(KEY_ID, "cd" * 32) is None
        with pytest.raises(NotFoundError):
            any_store.delete_grant(KEY_ID, "cd" * 32)

    def test_destroy(self, any_store: KeyStore) -> None:
        """A key goes with its aliases and grants, if the condition holds; others stay."""
        other = new_id()
        for key_id in (KEY_ID, other):
            any_store.create_key(key(key_id, object_name=key_id, deletion_at=START))
            any_store.create_alias(alias(f"alias/{key_id}", key_id))
            any_store.create_grant(grant(key_id=key_id))
        assert not any_store.destroy_key(KEY_ID, lambda record: record.is_due(START - 1))
        assert len(any_store.list_scheduled()) == 2
        assert any_store.destroy_key(KEY_ID, lambda record: record.is_due(START))
        assert not any_store.destroy_key(KEY_ID, lambda _: True)
        assert any_store.find_key(KEY_ID) is None
        assert [item.key_id for item in any_store.list_aliases("team-a")] == [other]
        assert any_store.list_grants(KEY_ID) == ()
        assert any_store.list_grants(other)
        assert any_store.count_keys("team-a") == 1
        again = any_store.create_key(key(new_id(), object_name=KEY_ID))
        assert again.key_id != KEY_ID


@pytest.mark.parametrize("record", [key(), key(object_name="main", deletion_at=START), alias(), grant()])
def test_record_survives_the_secret(record: Any) -> None:
    """Encoding and decoding gives the same record, and the JSON is legible but for the material."""
    secret = codec.encode(ROOT, record, "datakey-system")
    assert codec.decode(ROOT, secret) == record
    assert json.loads(base64.b64decode(secret["data"]["record.json"]))["formatVersion"] == 1


def test_names_of_secrets() -> None:
    """Names are as the architecture says, and legal."""
    assert codec.build_name(key()) == f"kmskey-{KEY_ID}"
    assert codec.build_name(key(object_name="main")).startswith("kmskey-n-")
    assert codec.build_name(alias()).startswith("kmsalias-")
    assert codec.build_name(grant()).startswith("kmsgrant-")


def edit(secret: dict[str, Any], change: Callable[[dict[str, Any]], None]) -> None:
    data = json.loads(base64.b64decode(secret["data"]["record.json"]))
    change(data)
    secret["data"]["record.json"] = base64.b64encode(json.dumps(data, sort_keys=True).encode()).decode()


DAMAGES: dict[str, Callable[[dict[str, Any]], None]] = {
    "state": lambda secret: edit(secret, lambda data: data.update(state="Disabled")),
    "account": lambda secret: edit(secret, lambda data: data.update(account="team-b")),
    "no mac": lambda secret: secret["data"].pop("mac"),
    "no data": lambda secret: secret.pop("data"),
    "bad base64": lambda secret: secret["data"].update(mac="%"),
    "kind": lambda secret: secret["metadata"]["labels"].update({codec.LABEL_RECORD: "alias"}),
    "unknown kind": lambda secret: secret["metadata"]["labels"].update({codec.LABEL_RECORD: "x"}),
    "name": lambda secret: secret["metadata"].update(name="kmskey-other"),
    "not json": lambda secret: secret["data"].update({"record.json": "e30="}),
}


@pytest.mark.parametrize("damage", DAMAGES, ids=str)
def test_damaged_record_is_not_read(damage: str) -> None:
    """Whatever was edited or swapped is an integrity error."""
    secret = codec.encode(ROOT, key(), "datakey-system")
    DAMAGES[damage](secret)
    with pytest.raises(IntegrityError):
        codec.decode(ROOT, secret)


@pytest.mark.parametrize(
    "change",
    [
        {"formatVersion": 2},
        {"state": "Odd"},
        {"createdAt": 10**400},
        {"materials": [{}]},
        {"materials": [{"materialId": "x", "sealed": "%", "createdAt": 1}]},
    ],
)
def test_authentic_but_unknown_record(change: dict[str, Any]) -> None:
    """A record that a newer version wrote isn't guessed at."""
    secret = codec.encode(ROOT, key(), "datakey-system")
    edit(secret, lambda data: data.update(change))
    raw = base64.b64decode(secret["data"]["record.json"])
    mac = ROOT.mac_record(codec._mac_message(secret["metadata"]["name"], raw))
    secret["data"]["mac"] = base64.b64encode(mac).decode()
    with pytest.raises(IntegrityError):
        codec.decode(ROOT, secret)


def test_constraint_of_a_grant_must_be_pairs() -> None:
    """A grant with a constraint that can't be compared isn't taken for one without."""
    data = grant().to_json() | {"contextSubset": ["purpose"]}
    with pytest.raises(TypeError, match="constraint"):
        GrantRecord.from_json(data)


def test_copied_record_is_not_read_under_another_name(store: KubernetesStore, api: FakeClusterApi) -> None:
    """A copy of an alias's Secret in another alias's place is noticed."""
    store.create_alias(alias("alias/a"))
    store.create_alias(alias("alias/b", new_id()))
    names = [codec.build_alias_name("team-a", name) for name in ("alias/a", "alias/b")]
    api.secret(names[1])["data"] = api.secret(names[0])["data"]
    with pytest.raises(IntegrityError):
        store.update_alias("team-a", "alias/b", lambda old: old)


def test_damaged_key_is_an_error_never_its_old_self(
    store: KubernetesStore, api: FakeClusterApi, objects: ObjectsApi
) -> None:
    """After an edit in the cluster the key answers IntegrityError; repaired, it works again."""
    store.create_key(key())
    before = dict(api.secret(f"kmskey-{KEY_ID}")["data"])
    api.touch(f"kmskey-{KEY_ID}", DAMAGES["state"])
    sync(store, objects)
    with pytest.raises(IntegrityError):
        store.find_key(KEY_ID)
    assert (store.cache.record_count, store.cache.broken_count) == (0, 1)
    api.touch(f"kmskey-{KEY_ID}", lambda secret: secret.update(data=before))
    sync(store, objects)
    assert store.find_key(KEY_ID) == key()
    api.touch(f"kmskey-{KEY_ID}", DAMAGES["state"])
    api_copy = sync(store, objects)
    api.drop(f"kmskey-{KEY_ID}")
    sync(store, objects)
    assert api_copy
    assert store.find_key(KEY_ID) is None


def test_damaged_alias_is_gone(store: KubernetesStore, api: FakeClusterApi, objects: ObjectsApi) -> None:
    """An alias that fails authentication names nothing."""
    store.create_alias(alias())
    api.touch(codec.build_alias_name("team-a", "alias/x"), DAMAGES["no mac"])
    sync(store, objects)
    assert store.find_alias("team-a", "alias/x") is None


def test_two_replicas_create_one_key(store: KubernetesStore, replica: KubernetesStore) -> None:
    """The second create of an object finds the first, although its memory is empty."""
    first = store.create_key(key(object_name="main"))
    assert replica.create_key(key(new_id(), object_name="main")) == first
    assert replica.find_key(first.key_id) == first


def test_two_replicas_change_one_key(
    store: KubernetesStore, replica: KubernetesStore, api: FakeClusterApi
) -> None:
    """A change that lost a race is made again on the newest version; none is lost."""
    store.create_key(key())

    def interfere(method: str, _: str) -> None:
        if method == "PUT":
            api.before = lambda _method, _path: None
            replica.update_key(KEY_ID, lambda record: replace(record, description="rival"))

    api.before = interfere
    changed = store.update_key(KEY_ID, disabled)
    assert (changed.state, changed.description) == (KeyState.DISABLED, "rival")


def test_endless_conflicts_end(store: KubernetesStore, replica: KubernetesStore, api: FakeClusterApi) -> None:
    """If others always win, the caller may try again later."""
    store.create_key(key())
    store.create_alias(alias())
    count = iter(range(1000))

    def interfere(method: str, path: str) -> None:
        api.before = lambda _method, _path: None
        if method in ("PUT", "DELETE"):
            api.touch(path.rpartition("/")[2], lambda _: None)
            next(count)
        api.before = interfere

    api.before = interfere
    for call in (
        lambda: store.update_key(KEY_ID, lambda record: replace(record, description=str(next(count)))),
        lambda: store.destroy_key(KEY_ID, lambda _: True),
        lambda: store.delete_alias("team-a", "alias/x"),
    ):
        with pytest.raises(DependencyTimeoutError, match="concurrent"):
            call()
    assert replica.refresh_key(KEY_ID) == key()


def test_taken_name_that_vanishes(store: KubernetesStore, api: FakeClusterApi) -> None:
    """If the name is taken at the create and free at the read, it is tried again."""
    store.create_key(key(object_name="main"))
    name = codec.build_name(key(object_name="main"))

    def vanish(method: str, _: str) -> None:
        if method == "GET":
            api.before = lambda _method, _path: None
            api.drop(name)

    api.before = vanish
    made = store.create_key(key(new_id(), object_name="main"))
    assert made.key_id != KEY_ID


def test_record_of_another_key_under_the_name(store: KubernetesStore, replica: KubernetesStore) -> None:
    """A key that was destroyed and made anew for the same object isn't changed in its place."""
    store.create_key(key(object_name="main"))
    replica.refresh_key(KEY_ID)
    replica.destroy_key(KEY_ID, lambda _: True)
    replica.create_key(key(new_id(), object_name="main"))
    with pytest.raises(NotFoundError):
        store.update_key(KEY_ID, disabled)
    assert not store.destroy_key(KEY_ID, lambda _: True)


def test_key_that_is_gone_in_the_cluster(store: KubernetesStore, api: FakeClusterApi) -> None:
    """Changing a key that somebody deleted finds nothing."""
    store.create_key(key())
    api.drop(f"kmskey-{KEY_ID}")
    with pytest.raises(NotFoundError):
        store.update_key(KEY_ID, disabled)


def test_record_of_another_kind(store: KubernetesStore, objects: ObjectsApi) -> None:
    """An alias where a grant should be is an integrity error."""
    secret = objects.create(codec.encode(ROOT, alias(), "datakey-system"))
    assert secret is not None
    with pytest.raises(IntegrityError, match="kind"):
        store._take(secret, GrantRecord)


def test_refresh_finds_another_replicas_key(store: KubernetesStore, replica: KubernetesStore) -> None:
    """A key that memory lacks is fetched by its label, at most every 50 ms."""
    store.create_key(key())
    assert replica.find_key(KEY_ID) is None
    assert replica.refresh_key(KEY_ID) == key()
    other = new_id()
    store.create_key(key(other))
    assert replica.refresh_key(other) is None
    replica._monotonic = Clock(1)
    assert replica.refresh_key(other) == key(other)


def test_unreachable(store: KubernetesStore, api: FakeClusterApi) -> None:
    """Reads go on, writes fail as a timeout."""
    store.create_key(key())
    api.reachable = False
    assert store.find_key(KEY_ID) == key()
    with pytest.raises(DependencyTimeoutError):
        store.update_key(KEY_ID, disabled)


class TestCache:
    """Which of two states is newer."""

    def test_old_event_does_not_undo_the_own_write(self, store: KubernetesStore, api: FakeClusterApi) -> None:
        """A late event with an older version is ignored."""
        store.create_key(key())
        late = json.loads(json.dumps(api.secret(f"kmskey-{KEY_ID}")))
        store.update_key(KEY_ID, disabled)
        store.cache.apply(late)
        assert store.find_key(KEY_ID) == disabled(key())

    def test_late_event_does_not_revive_a_deleted_record(
        self, store: KubernetesStore, api: FakeClusterApi, objects: ObjectsApi
    ) -> None:
        """After the own delete, events of the same Secret are ignored until the watch confirms it."""
        store.create_alias(alias())
        late = json.loads(json.dumps(api.secret(codec.build_alias_name("team-a", "alias/x"))))
        store.delete_alias("team-a", "alias/x")
        store.cache.apply(late)
        assert store.find_alias("team-a", "alias/x") is None
        store.create_alias(alias())
        store.cache.remove(late["metadata"]["name"], late["metadata"]["uid"], confirmed=True)
        assert store.find_alias("team-a", "alias/x") == alias()
        assert not store.cache._deleted_uids
        sync(store, objects)

    def test_list_drops_what_is_gone_but_not_newer_writes(
        self, store: KubernetesStore, objects: ObjectsApi
    ) -> None:
        """A list made before an own write can't remove it."""
        secrets, version = objects.list_all(codec.LABEL_RECORD)
        store.create_key(key())
        store.cache.replace_all(secrets, version)
        assert store.find_key(KEY_ID) == key()
        store.cache.replace_all([], "999999")
        assert store.find_key(KEY_ID) is None

    def test_secret_made_anew_under_the_same_name(self, store: KubernetesStore, api: FakeClusterApi) -> None:
        """Another UID under the name replaces the record, whatever it held."""
        store.create_key(key(object_name="main"))
        name = codec.build_name(key(object_name="main"))
        old_uid = api.secret(name)["metadata"]["uid"]
        secret = codec.encode(ROOT, key(new_id(), object_name="main"), "datakey-system")
        secret["metadata"] |= {"uid": "new", "resourceVersion": "5000"}
        store.cache.apply(secret)
        assert store.find_key(KEY_ID) is None
        store.cache.remove(name, old_uid, confirmed=True)
        assert store.cache.record_count == 1


class TestWatcher:
    """Lists, watches, and what happens when they break."""

    @pytest.fixture
    def running(
        self,
        store: KubernetesStore,
        objects: ObjectsApi,
        api: FakeClusterApi,
        monkeypatch: pytest.MonkeyPatch,
    ) -> Iterator[Watcher]:
        """Return a watcher whose thread runs, with short delays."""
        monkeypatch.setattr(watcher_module, "MIN_DELAY_SECONDS", 0.01)
        watcher = Watcher(objects, store.cache, time.monotonic)
        watcher.start()
        assert watcher.synced.wait(60)
        yield watcher
        watcher.stop()
        api.end_watches()

    def eventually(self, check: Callable[[], object]) -> None:
        """Wait until something holds."""
        deadline = time.monotonic() + 60
        while not check():
            assert time.monotonic() < deadline
            time.sleep(0.005)

    def test_events_arrive(
        self, running: Watcher, store: KubernetesStore, replica: KubernetesStore, api: FakeClusterApi
    ) -> None:
        """Another replica's create, change and delete reach this one's memory."""
        replica.create_key(key())
        self.eventually(lambda: store.find_key(KEY_ID) == key())
        replica.update_key(KEY_ID, disabled)
        self.eventually(lambda: store.find_key(KEY_ID) == disabled(key()))
        api.drop(f"kmskey-{KEY_ID}")
        self.eventually(lambda: store.find_key(KEY_ID) is None)
        assert running.age_seconds() < 5

    @pytest.mark.parametrize("broken", [False, True])
    @pytest.mark.usefixtures("running")
    def test_watch_starts_again(
        self, store: KubernetesStore, replica: KubernetesStore, api: FakeClusterApi, *, broken: bool
    ) -> None:
        """After the watch ended or broke, nothing is missed."""
        self.eventually(lambda: api._watches)
        api.end_watches(broken=broken)
        replica.create_key(key())
        self.eventually(lambda: store.find_key(KEY_ID) == key())

    @pytest.mark.usefixtures("running")
    def test_expired_watch_lists_again(
        self, store: KubernetesStore, replica: KubernetesStore, api: FakeClusterApi
    ) -> None:
        """410 Gone leads to a fresh list."""
        self.eventually(lambda: api._watches)
        api.compacted_below = 10**6
        api.end_watches()
        replica.create_key(key())
        api.compacted_below = 0
        self.eventually(lambda: store.find_key(KEY_ID) == key())

    @pytest.mark.usefixtures("running")
    def test_bug_does_not_end_the_thread(
        self, store: KubernetesStore, replica: KubernetesStore, api: FakeClusterApi
    ) -> None:
        """An event that nobody expected is logged, and the watch goes on."""
        self.eventually(lambda: api._watches)
        api.send({"type": "ADDED", "object": {"metadata": {"labels": {codec.LABEL_RECORD: "key"}}}})
        replica.create_key(key())
        self.eventually(lambda: store.find_key(KEY_ID) == key())

    def test_bookmarks_move_the_version(self, store: KubernetesStore, objects: ObjectsApi) -> None:
        """A bookmark changes nothing but the version to go on from."""
        watcher = Watcher(objects, store.cache, Clock(0))
        bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": "77"}}}
        assert watcher._apply(bookmark, "5") == "77"

    @pytest.mark.parametrize(("code", "error"), [(410, ExpiredError), (500, DependencyTimeoutError)])
    def test_error_events(
        self, store: KubernetesStore, objects: ObjectsApi, code: int, error: type[Exception]
    ) -> None:
        """Only 410 means that the list is too old."""
        with pytest.raises(error):
            Watcher(objects, store.cache, Clock(0))._apply({"type": "ERROR", "object": {"code": code}}, "5")


def test_long_lists_come_in_pages(
    store: KubernetesStore, objects: ObjectsApi, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All pages are read."""
    monkeypatch.setattr("datakeys.keyservice.store.objects_api.PAGE_SIZE", 2)
    for number in range(5):
        store.create_alias(alias(f"alias/{number}"))
    assert len(objects.list_all(codec.LABEL_RECORD)[0]) == 5


def test_threads_share_the_store(store: KubernetesStore) -> None:
    """Concurrent creates of one object make one key."""
    made: list[str] = []
    threads = [
        threading.Thread(target=lambda: made.append(store.create_key(key(new_id(), object_name="m")).key_id))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 8
    assert len(set(made)) == 1


def test_refresh_finds_another_replicas_grant(store: KubernetesStore, replica: KubernetesStore) -> None:
    """Before the watch has told of it; one that is nowhere is None."""
    assert store.refresh_grant(KEY_ID, "cd" * 32) is None
    replica.create_grant(grant())
    assert store.find_grant(KEY_ID, "cd" * 32) is None
    assert store.refresh_grant(KEY_ID, "cd" * 32) == store.find_grant(KEY_ID, "cd" * 32) == grant()


def test_retirable_grants(any_store: KeyStore) -> None:
    """Those of all keys that name the principal."""
    mine = replace(grant(), retiring_principal="me")
    other = replace(grant("ef" * 32, new_id()), retiring_principal="me")
    for record in (mine, other, grant("ab" * 32)):
        any_store.create_grant(record)
    found = sorted(any_store.list_retirable_grants("me"), key=lambda record: record.grant_id)
    assert found == [mine, other]
    assert list(any_store.list_retirable_grants("somebody")) == []
