"""Versions of a data key: each is made once, in a Secret of its own, and none is lost."""

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest

from controller_fakes import (
    KEY_ARN,
    MATERIAL,
    NAMESPACE,
    NOW,
    FakeApi,
    FakeCluster,
    FakeKeyService,
    SimulatedController,
    build_request_body,
)
from datakeys.contract.data_key_versions import MAX_VERSION, build_version_secret_name
from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.contract.errors import KeyDisabledError
from datakeys.controller.decisions.data_key_versions import (
    DataKeyVersion,
    build_version_fields,
    find_outdated,
    parse_versions,
)
from datakeys.controller.decisions.keys import ResolvedKey
from datakeys.controller.decisions.request_action import (
    Adopt,
    DoNothing,
    Generate,
    Refuse,
    ReplaceSecret,
    RestoreSecret,
    WriteReady,
    decide_request_action,
)
from datakeys.controller.decisions.request_view import ObjectKey, RequestView, parse_request
from datakeys.controller.decisions.secret import SecretView, build_secret, parse_secret
from datakeys.controller.decisions.status import build_ready_status
from datakeys.controller.kube.api import REQUESTS, SECRETS
from datakeys.controller.kube.errors import UnavailableError

KEY = ResolvedKey(KEY_ARN)
NEW_MATERIAL = "cd" * 32
CONTEXT = {
    "datakeys.dev/namespace": NAMESPACE,
    "datakeys.dev/request": "orders",
    "datakeys.dev/service-account": "app",
}


def encrypted(blob: bytes, material: str = MATERIAL) -> EncryptedDataKey:
    return EncryptedDataKey(blob, KEY_ARN, material, CONTEXT)


FIRST = DataKeyVersion(1, "orders", encrypted(b"\x01"))
SECOND = DataKeyVersion(2, "orders.v2", encrypted(b"\x02"))
RENEWED = FIRST.re_encrypted(encrypted(b"\x11", NEW_MATERIAL))


def view(*versions: DataKeyVersion, version: int, **status: Any) -> RequestView:
    """Return a request of a version whose status holds some of its versions."""
    body = build_request_body(version=version)
    body["metadata"] |= {"uid": "u1", "resourceVersion": "7", "generation": 1}
    request = parse_request(body)
    if versions:
        body["status"] = {**build_ready_status(request, versions, NOW), **status}
    return parse_request(body)


def secrets(*versions: DataKeyVersion, **metadata: Any) -> dict[str, SecretView]:
    """Return the Secrets of versions as they would be made."""
    found = {}
    for version in versions:
        body = build_secret(view(version=1), version)
        body["metadata"] |= {"resourceVersion": "3", "uid": "s1", **metadata}
        found[version.secret_name] = parse_secret(body)
    return found


def test_names_of_the_secrets() -> None:
    assert [build_version_secret_name("orders", number) for number in (1, 2, MAX_VERSION)] == [
        "orders",
        "orders.v2",
        "orders.v16",
    ]
    assert view(version=3).secret_names == ("orders", "orders.v2", "orders.v3")
    assert view(FIRST, SECOND, version=1).secret_names == ("orders", "orders.v2")


@pytest.mark.parametrize("versions", [(FIRST,), (RENEWED,), (FIRST, SECOND), (RENEWED, SECOND)])
def test_what_is_written_is_read_back(versions: tuple[DataKeyVersion, ...]) -> None:
    fields = json.loads(json.dumps(build_version_fields(versions)))
    assert parse_versions(fields, secret_name="orders", context=CONTEXT) == versions
    without_nulls = {name: value for name, value in fields.items() if value is not None}
    assert parse_versions(without_nulls, secret_name="orders", context=CONTEXT) == versions


def test_a_status_from_before_versions_is_version_one() -> None:
    fields = build_version_fields([FIRST])
    del fields["version"]
    assert parse_versions(fields, secret_name="orders", context=CONTEXT) == (FIRST,)


@pytest.mark.parametrize(
    "damage",
    [
        {"ciphertextBlob": None},
        {"ciphertextBlob": "%"},
        {"previousVersions": None},
        {"previousVersions": [{"version": 1, "ciphertextBlob": "AQ=="}]},
        {"version": 3},
        {"formerCiphertextBlob": "AQ=="},
    ],
)
def test_a_status_with_a_part_missing_is_damaged_and_nothing_is_generated(damage: dict[str, Any]) -> None:
    complete = view(FIRST, SECOND, version=2)
    body = build_request_body(version=2)
    body["metadata"] |= {"uid": "u1", "resourceVersion": "7", "generation": 1}
    body["status"] = {**build_ready_status(complete, complete.versions, NOW), **damage}
    request = parse_request(body)
    assert (request.damaged, request.versions) == (True, ())
    action = decide_request_action(request, {}, KEY)
    assert isinstance(action, Refuse)
    assert "can't be read" in action.message


STEPS = {
    "first": (view(version=2), {}, Generate(KEY_ARN, 1)),
    "second": (view(FIRST, version=2), secrets(FIRST), Generate(KEY_ARN, 2)),
    "not before the first's Secret is back": (view(FIRST, version=2), {}, RestoreSecret(FIRST)),
    "crash before the status": (view(FIRST, version=2), secrets(FIRST, SECOND), Adopt(SECOND)),
    "an older one is restored": (view(FIRST, SECOND, version=2), secrets(SECOND), RestoreSecret(FIRST)),
    "all there": (view(FIRST, SECOND, version=2), secrets(FIRST, SECOND), DoNothing()),
    "condition": (view(FIRST, SECOND, version=2, conditions=[]), secrets(FIRST, SECOND), WriteReady()),
    "re-encrypted": (view(RENEWED, version=1), secrets(RENEWED), DoNothing()),
    "Secret follows": (
        view(RENEWED, version=1),
        secrets(FIRST),
        ReplaceSecret(RENEWED, secrets(FIRST)["orders"]),
    ),
    "crash between delete and create": (view(RENEWED, version=1), {}, RestoreSecret(RENEWED)),
    "older one follows": (
        view(RENEWED, SECOND, version=2),
        secrets(FIRST, SECOND),
        ReplaceSecret(RENEWED, secrets(FIRST)["orders"]),
    ),
    "version taken back by force": (view(FIRST, SECOND, version=1), secrets(FIRST, SECOND), DoNothing()),
}


@pytest.mark.parametrize("case", STEPS)
def test_next_step(case: str) -> None:
    request, found, expected = STEPS[case]
    assert decide_request_action(request, found, KEY) == expected


def foreign(version: DataKeyVersion) -> dict[str, SecretView]:
    return secrets(version, ownerReferences=[])


REFUSALS = {
    "somebody's Secret has the name": (view(FIRST, version=2), secrets(FIRST) | foreign(SECOND), "orders.v2"),
    "the first key again": (
        view(FIRST, version=2),
        secrets(FIRST, replace(SECOND, encrypted=FIRST.encrypted)),
        "orders.v2",
    ),
    "former ciphertext in a foreign Secret": (view(RENEWED, version=1), foreign(FIRST), "orders"),
    "two re-encryptions ago": (
        view(RENEWED.re_encrypted(encrypted(b"\x12")), version=1),
        secrets(FIRST),
        "orders",
    ),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_a_secret_in_the_way_is_named_and_left_alone(case: str) -> None:
    request, found, name = REFUSALS[case]
    action = decide_request_action(request, found, KEY)
    assert isinstance(action, Refuse)
    assert (action.reason, action.secret_name) == ("Conflict", name)
    assert name in action.message


def test_outdated_are_the_versions_under_other_material_of_that_key() -> None:
    abroad = DataKeyVersion(2, "orders.v2", SECOND.encrypted._replace(key_arn="arn:other"))
    versions = (RENEWED, abroad)
    assert find_outdated(versions, key_arn=KEY_ARN, material_id=MATERIAL) == (RENEWED,)
    assert find_outdated(versions, key_arn=KEY_ARN, material_id=NEW_MATERIAL) == ()


class World:
    """A cluster with one request, a key service and one controller."""

    def __init__(self) -> None:
        self.cluster, self.service = FakeCluster(), FakeKeyService()
        self.failures: dict[str, Exception] = {}
        self.api = FakeApi(self.cluster, before=self._maybe_fail)
        self.controller = SimulatedController(self.api, self.service)

    async def issue(self, **spec: Any) -> None:
        """Create the request and let it be issued."""
        await self.cluster.put(REQUESTS, build_request_body(**spec))
        assert await self.controller.settle() is None

    def restart(self) -> SimulatedController:
        """Replace the controller by a new one, as after a crash."""
        self.controller.secrets.close()
        self.controller = SimulatedController(self.api, self.service)
        return self.controller

    async def raise_version(self, version: int) -> float | None:
        """Ask for a version and let the controller work."""
        body = self.cluster.find(REQUESTS, "orders")
        assert body is not None
        body = {**body, "spec": {**body["spec"], "version": version}}
        body["metadata"]["generation"] += 1
        await self.cluster.change(REQUESTS, NAMESPACE, body)
        return await self.controller.settle()

    async def _maybe_fail(self, call: str) -> None:
        if call in self.failures:
            raise self.failures.pop(call)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    yield world
    world.controller.secrets.close()


def blob(secret: dict[str, Any] | None) -> str:
    assert secret is not None
    return str(secret["data"]["ciphertextBlob"])


async def test_a_new_version_gets_a_secret_of_its_own_and_the_first_one_stays(world: World) -> None:
    await world.issue()
    first = world.controller.status()["ciphertextBlob"]
    assert await world.raise_version(2) is None
    status = world.controller.status()
    assert (status["version"], status["secretRef"]) == (2, {"name": "orders.v2"})
    assert blob(world.controller.secret()) == first != status["ciphertextBlob"]
    assert blob(world.controller.secret("orders.v2")) == status["ciphertextBlob"]
    (previous,) = status["previousVersions"]
    assert previous == {
        "version": 1,
        "ciphertextBlob": first,
        "keyId": KEY_ARN,
        "keyMaterialId": MATERIAL,
        "secretName": "orders",
    }
    assert world.controller.condition()["message"].endswith("orders.v2")
    assert world.service.calls == 2


async def test_a_request_that_begins_with_version_two_gets_both(world: World) -> None:
    await world.issue(version=2)
    assert world.service.calls == 2
    assert blob(world.controller.secret()) != blob(world.controller.secret("orders.v2"))


@pytest.mark.parametrize("name", ["orders", "orders.v2"])
async def test_a_deleted_secret_of_any_version_comes_back(world: World, name: str) -> None:
    await world.issue(version=2)
    before = blob(world.controller.secret(name))
    await world.cluster.remove(SECRETS, name)
    assert await world.restart().settle() is None
    assert blob(world.controller.secret(name)) == before
    assert world.service.calls == 2


async def test_a_crash_before_the_status_makes_no_third_data_key(world: World) -> None:
    await world.issue()
    world.failures["patch datakeyrequests"] = UnavailableError(0, "Unavailable", "crash")
    await world.raise_version(2)
    assert world.service.calls == 2
    assert world.controller.status()["ciphertextBlob"] == blob(world.controller.secret("orders.v2"))


async def test_while_the_key_is_disabled_the_first_version_stays_and_ready_says_why(world: World) -> None:
    await world.issue()
    first = dict(world.controller.status())
    world.service.error = KeyDisabledError("disabled")
    await world.raise_version(2)
    status = world.controller.status()
    assert world.controller.condition()["reason"] == "DisabledException"
    kept = ("version", "ciphertextBlob", "secretRef")
    assert {name: status[name] for name in kept} == {name: first[name] for name in kept}
    world.service.error = None
    assert await world.controller.settle() is None
    assert world.controller.status()["version"] == 2


async def test_a_secret_of_the_new_versions_name_is_waited_out(world: World) -> None:
    await world.issue()
    stranger = {"metadata": {"namespace": NAMESPACE, "name": "orders.v2"}, "data": {}}
    await world.cluster.put(SECRETS, stranger)
    await world.raise_version(2)
    assert world.controller.condition()["reason"] == "Conflict"
    assert world.controller.secrets.is_awaited(ObjectKey(NAMESPACE, "orders.v2"))
    await world.cluster.remove(SECRETS, "orders.v2")
    assert await world.controller.settle() is None
    assert world.controller.status()["ciphertextBlob"] == blob(world.controller.secret("orders.v2"))
