"""KmsKey, KmsAlias and KmsGrant against a key service in memory: calls, status, Events, retries."""

import re
from dataclasses import dataclass, field
from typing import Any

import kopf
import pytest

from controller_fakes import KEY_ARN, NAMESPACE, FakeApi, FakeCluster, FakeRecorder, build_key_body
from controller_key_service import CREATED_SECONDS, KEY_ID, OFF, FakeKeyManagement
from datakeys.contract.errors import (
    AlreadyExistsError,
    InternalError,
    InvalidGrantIdError,
    KeyDisabledError,
    KeyStateError,
    KeyUnavailableError,
    KmsError,
    MalformedPolicyDocumentError,
    NotFoundError,
    TagError,
    UnsupportedOperationError,
    ValidationError,
)
from datakeys.controller.decisions.alias_claims import AliasClaim
from datakeys.controller.decisions.backoff import QUIET_ATTEMPTS
from datakeys.controller.decisions.keys import parse_key_facts
from datakeys.controller.decisions.request_view import ObjectKey
from datakeys.controller.handlers import handle_kms_alias, handle_kms_grant
from datakeys.controller.handlers.handle_kms_alias import KmsAliasHandler
from datakeys.controller.handlers.handle_kms_grant import KmsGrantHandler
from datakeys.controller.handlers.handle_kms_key import KmsKeyHandler
from datakeys.controller.handlers.outcomes import DELETION_ATTEMPTS, HEALING_SECONDS
from datakeys.controller.key_memory import KeyMemory

ALIAS_ARN = f"arn:k8s:kms:cluster-1:{NAMESPACE}:alias/orders"
CREATED = "2026-01-01T00:00:00Z"
LOUD = QUIET_ATTEMPTS


def build_object(name: str, spec: dict[str, Any], status: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return an object of the group."""
    metadata = {
        "namespace": NAMESPACE,
        "name": name,
        "uid": "u1",
        "generation": 1,
        "creationTimestamp": CREATED,
    }
    return {"metadata": metadata, "spec": spec, "status": status or {}}


def conditions(patch: kopf.Patch) -> list[tuple[str, str]]:
    """Return status and reason of the patched conditions."""
    return [(item["status"], item["reason"]) for item in patch.status.get("conditions", [])]


@dataclass
class World:
    """Handlers, what they call and what they tell."""

    service: FakeKeyManagement = field(default_factory=FakeKeyManagement)
    looks: list[ObjectKey] = field(default_factory=list)
    recorder: FakeRecorder = field(default_factory=FakeRecorder)
    keys: KeyMemory = field(default_factory=KeyMemory)
    api: FakeApi = field(default_factory=lambda: FakeApi(FakeCluster()))

    @property
    def key(self) -> KmsKeyHandler:
        """Return the handler of KmsKeys."""
        service: Any = self.service
        recorder: Any = self.recorder
        api: Any = self.api
        return KmsKeyHandler(service, recorder, self.looks.append, api)

    @property
    def alias(self) -> KmsAliasHandler:
        """Return the handler of KmsAliases."""
        service: Any = self.service
        recorder: Any = self.recorder
        return KmsAliasHandler(service, recorder, self.keys, "cluster-1")

    @property
    def grant(self) -> KmsGrantHandler:
        """Return the handler of KmsGrants."""
        service: Any = self.service
        recorder: Any = self.recorder
        return KmsGrantHandler(service, recorder, self.keys, "cluster-1")


@pytest.fixture
async def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """Give a world in which nobody waits for a KmsKey."""
    monkeypatch.setattr(handle_kms_alias, "KEY_WAIT_SECONDS", 0.01)
    monkeypatch.setattr(handle_kms_grant, "KEY_WAIT_SECONDS", 0.01)
    world = World()
    await world.keys.observe(parse_key_facts(build_key_body()))
    return world


async def test_new_key(world: World) -> None:
    """A new KmsKey is one CreateKey, a status and an Event."""
    patch = kopf.Patch()
    await world.key.apply(build_object("main", {"enabled": True}), patch, 0)
    assert world.service.calls == [("create_key", NAMESPACE, "main")]
    assert patch.status["arn"] == KEY_ARN
    assert conditions(patch) == [("True", "Enabled"), ("True", "Applied")]
    assert world.recorder.reasons == ["Created"]


async def test_known_key_makes_no_patch(world: World) -> None:
    """A key whose spec was applied is looked at later, and nothing is called, changed or told now."""
    first = kopf.Patch()
    await world.key.apply(build_object("main", {"enabled": True}), first, 0)
    status = {name: value for name, value in first.status.items() if value is not None}
    second = kopf.Patch()
    await world.key.apply(build_object("main", {"enabled": True}, status), second, 0)
    assert dict(second.status) == {}
    assert world.recorder.reasons == ["Created"]
    assert world.service.calls == [("create_key", NAMESPACE, "main")]
    assert world.looks == [ObjectKey(NAMESPACE, "main")]


@pytest.mark.parametrize(
    ("state", "enabled", "call", "reason"),
    [("Enabled", False, "DisableKey", "Disabled"), ("Disabled", True, "EnableKey", "Enabled")],
)
async def test_changed_spec_switches_the_key(
    world: World, state: str, enabled: bool, call: str, reason: str
) -> None:
    """A key whose state isn't that of a new spec is switched, whoever has changed it."""
    world.service.set(state=state)
    patch = kopf.Patch()
    body = build_object("main", {"enabled": enabled}, {"keyId": KEY_ID, "keyState": state})
    await world.key.apply(body, patch, 0)
    assert world.service.calls == [("change_key", call, NAMESPACE, KEY_ID)]
    assert patch.status["keyState"] == reason
    assert world.recorder.reasons == [reason]


async def test_revived_key_is_told(world: World) -> None:
    """A new object that gets an old key says that the deletion was cancelled."""
    world.service.set(creation_date=CREATED_SECONDS - 1000)
    await world.key.apply(build_object("main", {}), kopf.Patch(), 0)
    assert world.recorder.reasons == ["DeletionCancelled"]


async def test_refused_key_waits_for_a_change(world: World) -> None:
    """A refusal that only a new spec can end is a condition, and isn't tried again."""
    world.service.errors["create_key"] = MalformedPolicyDocumentError("bad")
    patch = kopf.Patch()
    await world.key.apply(build_object("main", {}), patch, 0)
    assert conditions(patch) == [("False", "MalformedPolicyDocumentException")]
    assert world.recorder.reasons == ["Failed"]
    again = kopf.Patch()
    await world.key.apply(build_object("main", {}, dict(patch.status)), again, 0)
    assert dict(again.status) == {}


async def test_outage_is_tried_again_and_told_when_it_lasts(world: World) -> None:
    """An outage is retried by kopf: first quietly, then with a condition."""
    world.service.errors["create_key"] = InternalError("down")
    patch = kopf.Patch()
    with pytest.raises(kopf.TemporaryError) as first:
        await world.key.apply(build_object("main", {}), patch, 0)
    assert dict(patch.status) == {}
    with pytest.raises(kopf.TemporaryError) as later:
        await world.key.apply(build_object("main", {}), patch, LOUD)
    assert conditions(patch) == [("False", "Retrying")]
    assert (first.value.delay or 0) < (later.value.delay or 0)


SETTINGS = {
    "enabled": True,
    "description": "orders",
    "tags": {"team": "shop"},
    "policy": '{"Statement": []}',
    "rotation": {"enabled": True, "periodDays": 90},
}


async def test_settings_are_applied_and_shown(world: World) -> None:
    """An edited spec is applied by one call per setting that differs; the status shows the rotation."""
    patch = kopf.Patch()
    await world.key.apply(build_object("main", SETTINGS), patch, 0)
    assert world.service.changes == [
        "UpdateKeyDescription",
        "PutKeyPolicy",
        "TagResource",
        "EnableKeyRotation",
    ]
    assert patch.status["rotation"] == {"enabled": True, "periodDays": 90, "nextRotationDate": CREATED}
    assert conditions(patch) == [("True", "Enabled"), ("True", "Applied")]
    again = kopf.Patch()
    await world.key.apply(build_object("main", SETTINGS), again, 0)
    assert len(world.service.changes) == 4


async def test_settings_that_are_not_given_are_not_read(world: World) -> None:
    """Tags and policy are looked at only if the spec has, or had, a word about them."""
    await world.key.apply(build_object("main", {}), kopf.Patch(), 0)
    assert world.service.reads == ["GetKeyRotationStatus"]
    await world.key.apply(build_object("main", {}), kopf.Patch(), 0, {"tags": {"a": "b"}, "policy": "{}"})
    assert set(world.service.reads[1:]) == {"GetKeyRotationStatus", "ListResourceTags", "GetKeyPolicy"}


@pytest.mark.parametrize(
    ("key_spec", "origin"),
    [("RSA_2048", "AWS_KMS"), ("HMAC_256", "AWS_KMS"), ("SYMMETRIC_DEFAULT", "EXTERNAL")],
)
async def test_key_that_cannot_rotate_is_not_asked(world: World, key_spec: str, origin: str) -> None:
    """Keys that can't rotate have no rotation in their status, and cause no refused call."""
    world.service.set(key_spec=key_spec, origin=origin)
    patch = kopf.Patch()
    await world.key.apply(build_object("main", {"keySpec": key_spec, "origin": origin}), patch, 0)
    assert world.service.reads == []
    assert "rotation" not in patch.status
    assert conditions(patch)[1] == ("True", "Applied")


@pytest.mark.parametrize(
    ("operation", "error", "word"),
    [
        ("PutKeyPolicy", MalformedPolicyDocumentError("bad"), "spec.policy"),
        ("TagResource", TagError("bad"), "spec.tags"),
        ("UpdateKeyDescription", ValidationError("bad"), "spec"),
        ("EnableKeyRotation", UnsupportedOperationError("bad"), "spec"),
        ("EnableKeyRotation", KeyDisabledError("off"), "spec.enabled"),
    ],
)
async def test_refused_setting_is_told_and_holds_up_nothing(
    world: World, operation: str, error: KmsError, word: str
) -> None:
    """Synced has KMS's error name, the operation and the next step; the other settings are applied."""
    world.service.errors[operation] = error
    patch = kopf.Patch()
    await world.key.apply(build_object("main", {**SETTINGS, "enabled": False}), patch, 0)
    assert len(world.service.changes) == 5
    assert world.service.key.state == "Disabled"
    ready, synced = patch.status["conditions"]
    assert (ready["status"], ready["reason"]) == ("False", "Disabled")
    assert (synced["type"], synced["status"], synced["reason"]) == ("Synced", "False", error.code)
    assert synced["message"].startswith(f"{operation}: ")
    assert word in synced["message"]
    assert world.recorder.reasons[-1] == "Failed"


async def test_outage_of_a_setting_is_tried_again(world: World) -> None:
    """A retryable failure is retried: quietly at first, then with Retrying and the next time."""
    world.service.errors["TagResource"] = KeyUnavailableError("down")
    patch = kopf.Patch()
    with pytest.raises(kopf.TemporaryError):
        await world.key.apply(build_object("main", SETTINGS), patch, 0)
    assert conditions(patch) == [("True", "Enabled")]
    with pytest.raises(kopf.TemporaryError):
        await world.key.apply(build_object("main", SETTINGS), patch, LOUD)
    synced = patch.status["conditions"][1]
    assert (synced["status"], synced["reason"]) == ("False", "Retrying")
    assert re.search(r"Next attempt at \d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$", synced["message"])
    world.service.errors.clear()
    await world.key.apply(build_object("main", SETTINGS, dict(patch.status)), patch, LOUD + 1)
    assert conditions(patch)[1] == ("True", "Applied")
    assert world.service.tags == {"team": "shop"}


async def test_setting_that_cannot_be_read_is_tried_again_and_not_overwritten(world: World) -> None:
    """Without knowing the tags, none are set; the key is still switched."""
    world.service.errors["ListResourceTags"] = KeyUnavailableError("down")
    with pytest.raises(kopf.TemporaryError):
        await world.key.apply(build_object("main", {**SETTINGS, "enabled": False}), kopf.Patch(), 0)
    assert "TagResource" not in world.service.changes
    assert world.service.key.state == "Disabled"


async def test_setting_that_was_taken_out_is_undone(world: World) -> None:
    """What a former spec gave and the new one doesn't is the default again; the rest stays."""
    await world.key.apply(build_object("main", SETTINGS), kopf.Patch(), 0)
    world.service.tags["api"] = "1"
    await world.key.apply(build_object("main", {}), kopf.Patch(), 0, SETTINGS)
    assert world.service.tags == {"api": "1"}
    assert world.service.rotation == OFF
    assert world.service.key.description == ""
    assert "arn:k8s:iam::shop:root" in world.service.policy


async def test_wrong_policy_of_a_known_key_does_not_keep_it_enabled(world: World) -> None:
    """An edit whose policy is none still disables the key: only that one setting is refused."""
    world.service.errors["create_key"] = MalformedPolicyDocumentError("bad")
    world.service.errors["PutKeyPolicy"] = MalformedPolicyDocumentError("bad")
    body = build_object("main", {"enabled": False, "policy": "nonsense"}, {"keyId": KEY_ID})
    patch = kopf.Patch()
    await world.key.apply(body, patch, 0)
    assert world.service.key.state == "Disabled"
    assert conditions(patch) == [("False", "Disabled"), ("False", "MalformedPolicyDocumentException")]


@pytest.mark.parametrize("gone", [True, False])
async def test_changed_spec_of_a_key_that_is_going_brings_it_back(world: World, gone: bool) -> None:
    """A key that is pending deletion by a call is revived by CreateKey; a destroyed one is made anew."""
    world.service.set(state="PendingDeletion")
    if gone:
        world.service.errors["DescribeKey"] = NotFoundError("gone")
    await world.key.apply(build_object("main", {}, {"keyId": KEY_ID}), kopf.Patch(), 0)
    assert world.service.calls[0] == ("create_key", NAMESPACE, "main")


async def test_restart_does_not_undo_what_was_done_by_calls(world: World) -> None:
    """A key that was disabled by a call stays disabled until its KmsKey changes."""
    first = kopf.Patch()
    await world.key.apply(build_object("main", {"enabled": True}), first, 0)
    world.service.set(state="Disabled")
    status = {name: value for name, value in first.status.items() if value is not None}
    await world.key.apply(build_object("main", {"enabled": True}, status), kopf.Patch(), 0)
    assert world.service.key.state == "Disabled"
    changed = build_object("main", {"enabled": True}, status)
    changed["metadata"]["generation"] = 2
    await world.key.apply(changed, kopf.Patch(), 0)
    assert world.service.key.state == "Enabled"


async def test_deleted_key_is_scheduled(world: World) -> None:
    """A deletion is scheduled with the spec's window, once, and the object goes."""
    body = build_object("main", {"deletion": {"pendingWindowDays": 7}}, {"keyId": KEY_ID})
    await world.key.schedule_deletion(body, 0)
    assert world.service.calls == [("schedule_key_deletion", NAMESPACE, KEY_ID, "7")]
    assert world.recorder.reasons == ["DeletionScheduled"]


async def test_key_that_is_pending_deletion_already_lets_its_object_go(world: World) -> None:
    """Somebody has scheduled the deletion by a call: the object goes, nothing is abandoned."""
    world.service.errors["schedule_key_deletion"] = KeyStateError(f"{KEY_ARN} is pending deletion.")
    await world.key.schedule_deletion(build_object("main", {}, {"keyId": KEY_ID}), 0)
    assert world.recorder.reasons == ["DeletionScheduled"]


async def test_key_that_was_never_made_just_goes(world: World) -> None:
    """Without a key id there is nothing to schedule."""
    await world.key.schedule_deletion(build_object("main", {}), 0)
    assert world.service.calls == []


@pytest.mark.parametrize(
    ("error", "retry"),
    [(NotFoundError("gone"), 0), (KeyUnavailableError("down"), DELETION_ATTEMPTS)],
)
async def test_object_is_let_go_in_the_end(world: World, error: KmsError, retry: int) -> None:
    """An object doesn't hang: a final refusal or a long outage lets it go, and that is told."""
    world.service.errors["schedule_key_deletion"] = error
    await world.key.schedule_deletion(build_object("main", {}, {"keyId": KEY_ID}), retry)
    assert world.recorder.reasons == ["DeletionAbandoned"]


async def test_deletion_waits_for_the_key_service(world: World) -> None:
    """During an outage the deletion is tried again, with growing pauses up to a minute."""
    world.service.errors["schedule_key_deletion"] = KeyUnavailableError("down")
    body = build_object("main", {}, {"keyId": KEY_ID})
    delays = []
    for retry in (0, 3, DELETION_ATTEMPTS - 1):
        with pytest.raises(kopf.TemporaryError) as again:
            await world.key.schedule_deletion(body, retry)
        delays.append(again.value.delay)
    assert delays == [1.0, 8.0, 60.0]


def alias(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a KmsAlias that points to the known key."""
    return build_object("orders", {"targetKeyRef": {"name": "main"}, **spec}, status)


async def test_new_alias(world: World) -> None:
    """A new alias is created and told."""
    patch = kopf.Patch()
    await world.alias.apply(alias(), patch, 0)
    assert world.service.calls == [("create_alias", NAMESPACE, "alias/orders", KEY_ARN)]
    assert (patch.status["arn"], patch.status["targetKeyArn"]) == (ALIAS_ARN, KEY_ARN)
    assert conditions(patch) == [("True", "Created")]
    assert world.recorder.reasons == ["Created"]


async def test_alias_that_exists_is_taken_over(world: World) -> None:
    """After a crash between call and status the alias is pointed instead of created."""
    world.service.errors["create_alias"] = AlreadyExistsError("there")
    await world.alias.apply(alias(), kopf.Patch(), 0)
    assert [call[0] for call in world.service.calls] == ["create_alias", "update_alias"]


async def test_alias_that_was_lost_is_made_again(world: World) -> None:
    """An alias that the status knows and the key service doesn't is created."""
    world.service.errors["update_alias"] = NotFoundError("gone")
    status = {"arn": ALIAS_ARN, "targetKeyArn": "old"}
    await world.alias.apply(alias(status), kopf.Patch(), 0)
    assert [call[0] for call in world.service.calls] == ["update_alias", "create_alias"]


async def test_alias_by_key_id(world: World) -> None:
    """A bare key id becomes the ARN of the namespace's account."""
    patch = kopf.Patch()
    body = build_object("orders", {"targetKeyId": KEY_ID, "aliasName": "alias/x"})
    await world.alias.apply(body, patch, 0)
    assert world.service.calls == [("create_alias", NAMESPACE, "alias/x", KEY_ARN)]
    assert patch.status["targetKeyArn"] == KEY_ARN


async def test_alias_waits_for_its_key(world: World) -> None:
    """An alias whose KmsKey isn't there says so after the first wait, and goes on when it comes."""
    patch = kopf.Patch()
    with pytest.raises(kopf.TemporaryError):
        await world.alias.apply(alias(targetKeyRef={"name": "none"}), patch, 0)
    assert conditions(patch) == [("False", "NotFoundException")]
    assert world.service.calls == []


def claim(name: str, **changes: Any) -> AliasClaim:
    """Return the claim of another KmsAlias that is older and has the alias."""
    return AliasClaim(**{"is_new": False, "created": "2025-01-01T00:00:00Z", "name": name, **changes})


async def test_alias_of_another_object_is_left_alone(world: World) -> None:
    """Another KmsAlias can neither point an alias elsewhere nor delete it, and is told whose it is."""
    patch = kopf.Patch()
    with pytest.raises(kopf.TemporaryError) as again:
        await world.alias.apply(alias(), patch, 0, [claim("first")])
    assert 0 < (again.value.delay or 0) <= HEALING_SECONDS
    assert conditions(patch) == [("False", "AlreadyExistsException")]
    assert "KmsAlias first has alias/orders" in patch.status["conditions"][0]["message"]
    await world.alias.delete(alias({"arn": ALIAS_ARN}), 0, [claim("first")])
    assert world.service.calls == []


@pytest.mark.parametrize(
    "other",
    [claim("second", created="2027-01-01T00:00:00Z"), claim("a", is_new=True), claim("orders", is_new=True)],
    ids=["younger", "never-had-it", "itself-before"],
)
async def test_who_has_the_alias_keeps_it(world: World, other: AliasClaim) -> None:
    """Younger ones, older ones that never had it, and what kopf remembers of itself change nothing."""
    body = alias({"arn": ALIAS_ARN, "targetKeyArn": KEY_ARN})
    await world.alias.apply(body, kopf.Patch(), 0, [other])
    assert [call[0] for call in world.service.calls] == ["update_alias"]
    await world.alias.delete(body, 0, [other])
    assert world.service.calls[-1] == ("delete_alias", NAMESPACE, "alias/orders")


async def test_refused_alias(world: World) -> None:
    """A refusal of the key service is told with its reason."""
    world.service.errors["create_alias"] = MalformedPolicyDocumentError("no")
    patch = kopf.Patch()
    await world.alias.apply(alias(), patch, 0)
    assert conditions(patch) == [("False", "MalformedPolicyDocumentException")]
    assert world.recorder.reasons == ["Failed"]


@pytest.mark.parametrize("retry", [0, 3, 20])
async def test_alias_and_grant_go_on_when_the_obstacle_is_gone(world: World, retry: int) -> None:
    """A state of the key that somebody can end is told by its name, and tried again within a minute."""
    world.service.errors = {
        "create_alias": KeyStateError(f"{KEY_ARN} is pending deletion."),
        "create_grant": KeyDisabledError(f"{KEY_ARN} is disabled."),
    }
    for handler, body, reason in (
        (world.alias, alias(), "KMSInvalidStateException"),
        (world.grant, grant(), "DisabledException"),
    ):
        patch = kopf.Patch()
        with pytest.raises(kopf.TemporaryError) as again:
            await handler.apply(body, patch, retry)
        assert 0 < (again.value.delay or 0) <= HEALING_SECONDS
        assert conditions(patch) == [("False", reason)]
        assert "continues by itself" in patch.status["conditions"][0]["message"]


async def test_deleted_alias(world: World) -> None:
    """An alias that was made is deleted; one that is gone, or never was, just goes."""
    await world.alias.delete(alias(), 0)
    assert world.service.calls == []
    await world.alias.delete(alias({"arn": ALIAS_ARN}), 0)
    assert world.service.calls == [("delete_alias", NAMESPACE, "alias/orders")]
    assert world.recorder.reasons == ["Deleted"]
    world.service.errors["delete_alias"] = NotFoundError("gone")
    await world.alias.delete(alias({"arn": ALIAS_ARN}), 0)
    world.service.errors["delete_alias"] = InternalError("down")
    with pytest.raises(kopf.TemporaryError):
        await world.alias.delete(alias({"arn": ALIAS_ARN}), 0)
    await world.alias.delete(alias({"arn": ALIAS_ARN}), DELETION_ATTEMPTS)


def grant(status: dict[str, Any] | None = None, **spec: Any) -> dict[str, Any]:
    """Return a KmsGrant on the known key."""
    base = {
        "keyRef": {"name": "main"},
        "granteePrincipal": {"serviceAccountName": "app"},
        "operations": ["Decrypt"],
    }
    return build_object("reader", {**base, **spec}, status)


async def test_new_grant(world: World) -> None:
    """A new grant is created for its object and told."""
    patch = kopf.Patch()
    await world.grant.apply(grant(), patch, 0)
    assert world.service.calls == [("create_grant", NAMESPACE, "reader")]
    assert (patch.status["grantId"], patch.status["grantToken"]) == ("g", "t")
    assert patch.status["keyArn"] == KEY_ARN
    assert conditions(patch) == [("True", "Created")]


async def test_grant_that_is_there_is_left_alone(world: World) -> None:
    """A resume makes no call for a grant that has its id."""
    await world.grant.apply(grant({"grantId": "g"}), kopf.Patch(), 0)
    assert world.service.calls == []


async def test_grant_by_key_id(world: World) -> None:
    """A bare key id becomes the ARN of the namespace's account."""
    patch = kopf.Patch()
    body = grant()
    body["spec"] = {**body["spec"], "keyId": KEY_ID}
    del body["spec"]["keyRef"]
    await world.grant.apply(body, patch, 0)
    assert patch.status["keyArn"] == KEY_ARN


async def test_grant_waits_for_its_key_and_tells_refusals(world: World) -> None:
    """A missing key is waited for; a refusal is a condition."""
    with pytest.raises(kopf.TemporaryError):
        await world.grant.apply(grant(keyRef={"name": "none"}), kopf.Patch(), 0)
    world.service.errors["create_grant"] = MalformedPolicyDocumentError("no")
    patch = kopf.Patch()
    await world.grant.apply(grant(), patch, 0)
    assert conditions(patch) == [("False", "MalformedPolicyDocumentException")]


async def test_deleted_grant(world: World) -> None:
    """A grant is revoked; one that is gone, or never was, just goes."""
    status = {"grantId": "g", "keyArn": KEY_ARN}
    await world.grant.revoke(grant(), 0)
    assert world.service.calls == []
    await world.grant.revoke(grant(status), 0)
    assert world.service.calls == [("revoke_grant", NAMESPACE, KEY_ARN, "g")]
    assert world.recorder.reasons == ["Deleted"]
    world.service.errors["revoke_grant"] = InvalidGrantIdError("gone")
    await world.grant.revoke(grant(status), 0)
    world.service.errors["revoke_grant"] = InternalError("down")
    with pytest.raises(kopf.TemporaryError):
        await world.grant.revoke(grant(status), 0)
    await world.grant.revoke(grant(status), DELETION_ATTEMPTS)
