"""Who may write requests, grants, aliases and key policies, judged by a real API server."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from chart_installation import CONTROLLER, Installation, installed_chart, refusal
from custom_objects import ALIASES, GRANTS, KEYS, REQUESTS, Json, Objects
from datakeys.contract.identity import GROUP, VERSION
from user_rights import (
    GENERATE,
    KEY_POLICY,
    POLICIES,
    Users,
    build_alias,
    build_grant,
    build_one_of_each,
    wait_policies,
)
from workloads import build_key, build_request

KEY_ID = "0a1b2c3d-0000-4000-8000-00000000000f"
OTHER_KEY_ID = KEY_ID.replace("0a1b", "ffff")
ARN = f"arn:k8s:kms:cluster-1:{{}}:key/{KEY_ID}"


@pytest.fixture(scope="module")
def installation(control_plane: Path) -> Iterator[Installation]:
    with installed_chart(control_plane) as installation:
        yield installation


@pytest.fixture
def administrator(users: Users) -> Objects:
    return Objects(users.administrator, users.namespace)


# Requests: each form of naming a key, and the name that RBAC compares.
FORMS = [
    pytest.param({"keyRef": {"name": "my-key"}}, "my-key", "spec.keyRef.name", id="keyRef"),
    pytest.param({"keyId": KEY_ID}, KEY_ID, "spec.keyId", id="key-id"),
    pytest.param({"keyId": ARN.format("own")}, KEY_ID, "spec.keyId", id="key-arn"),
    pytest.param({"keyId": "alias/main"}, "alias/main", "spec.keyId", id="alias-name"),
    pytest.param({"keyId": "alias/app/key/1"}, "alias/app/key/1", "spec.keyId", id="alias-with-slashes"),
    pytest.param({"keyId": f"alias/{KEY_ID}"}, f"alias/{KEY_ID}", "spec.keyId", id="alias-like-a-key-id"),
    pytest.param(
        {"keyId": "arn:k8s:kms:cluster-1:other:alias/team/main"},
        "alias/team/main",
        "spec.keyId",
        id="alias-arn",
    ),
    pytest.param(
        {"keyId": "arn:k8s:kms:cluster-1:other:alias/alias/x"}, "alias/alias/x", "spec.keyId", id="twice"
    ),
]
SPECS = [pytest.param(form.values[0], id=form.id) for form in FORMS]


def _create_request(objects: Objects, spec: Json, name: str = "r") -> None:
    objects.create(REQUESTS, build_request(objects.namespace, name, **spec))


@pytest.mark.parametrize(("spec", "rbac_name", "field"), FORMS)
def test_request_needs_the_right_on_the_key_it_names(
    users: Users, spec: Json, rbac_name: str, field: str
) -> None:
    """The right on exactly that name suffices; on another key it doesn't, and the message says what lacks."""
    user = users.new()
    users.allow(user, GENERATE, "another")
    with users.acting_as(user) as objects:
        text = refusal(_create_request, objects, spec)
        for part in (POLICIES[REQUESTS], user, f"kmskeys/{GENERATE}", rbac_name, users.namespace, field):
            assert part in text, part
        users.allow(user, GENERATE, rbac_name)
        _create_request(objects, spec)


@pytest.mark.parametrize("spec", SPECS)
def test_right_without_names_covers_every_form(users: Users, spec: Json) -> None:
    """A rule without resourceNames is a right on all keys, however the request names them."""
    user = users.new()
    users.allow(user, GENERATE)
    with users.acting_as(user) as objects:
        _create_request(objects, spec)


@pytest.mark.parametrize("spec", SPECS)
def test_right_in_another_namespace_is_none_here(users: Users, other: Users, spec: Json) -> None:
    """The request's own namespace counts, also if the ARN names another."""
    user = users.new()
    other.allow(user, GENERATE)
    with users.acting_as(user) as objects:
        assert POLICIES[REQUESTS] in refusal(_create_request, objects, spec)


@pytest.mark.parametrize(
    "operation", ["generatedatakey", "decrypt", "encrypt", "creategrant", "putkeypolicy", "describekey"]
)
def test_no_other_operation_implies_the_right(users: Users, operation: str) -> None:
    """As in AWS KMS, GenerateDataKey doesn't include GenerateDataKeyWithoutPlaintext."""
    user = users.new()
    users.allow(user, operation)
    with users.acting_as(user) as objects:
        assert f"kmskeys/{GENERATE}" in refusal(_create_request, objects, {"keyRef": {"name": "main"}})


def test_key_name_and_key_id_are_two_names(users: Users) -> None:
    """RBAC compares what the request writes: a right on the KmsKey's name says nothing about its key id."""
    user = users.new()
    users.allow(user, GENERATE, "main")
    with users.acting_as(user) as objects:
        _create_request(objects, {"keyRef": {"name": "main"}})
        refusal(_create_request, objects, {"keyId": KEY_ID}, "by-id")


def test_right_of_a_group_counts(users: Users) -> None:
    """The authorizer sees the groups of the user who asks."""
    user = users.new()
    users.allow("team", GENERATE, "main", kind="Group")
    with users.acting_as(user) as alone, users.acting_as(user, "team") as member:
        refusal(_create_request, alone, {"keyRef": {"name": "main"}})
        _create_request(member, {"keyRef": {"name": "main"}})


def test_user_name_can_not_garble_the_message(users: Users) -> None:
    """Quotes in a user's name end up in the message, not in the expression."""
    user = users.new(prefix="""a" + 'b\\""")
    with users.acting_as(user) as objects:
        message = json.loads(refusal(_create_request, objects, {}))["message"]
        assert f'user "{user}" may not create kmskeys/{GENERATE} on key "main"' in message


def test_forged_update_keeps_the_checked_key(users: Users) -> None:
    """A request made for one key can't be turned to another later: its spec is immutable."""
    user = users.new()
    users.allow(user, GENERATE, "main")
    with users.acting_as(user) as objects:
        _create_request(objects, {"keyRef": {"name": "main"}})
        with pytest.raises(client.ApiException, match="immutable"):
            objects.patch(REQUESTS, "r", {"spec": {"keyRef": {"name": "secret"}}})


def test_new_version_needs_the_right_again(users: Users) -> None:
    """A new version is a new data key; every other change of a request is nobody's business."""
    maker, other = users.new(), users.new()
    users.allow(maker, GENERATE, "main")
    with users.acting_as(maker) as objects:
        _create_request(objects, {"keyRef": {"name": "main"}})
    with users.acting_as(other) as objects:
        text = refusal(objects.patch, REQUESTS, "r", {"spec": {"version": 2}})
        assert f'kmskeys/{GENERATE} on key \\"main\\"' in text
        objects.patch(REQUESTS, "r", {"metadata": {"labels": {"team": "blue"}}})
        users.allow(other, GENERATE, "main")
        objects.patch(REQUESTS, "r", {"spec": {"version": 2}})


def test_bad_request_is_told_so_before_its_right_is_judged(users: Users) -> None:
    """The schema's message comes first, so the policy never sees an object without a key."""
    user = users.new()
    with users.acting_as(user) as objects, pytest.raises(client.ApiException, match="exactly one of keyId"):
        _create_request(objects, {"keyRef": None})


# Grants.
@pytest.mark.parametrize(
    ("key", "rbac_name"), [({"keyRef": {"name": "main"}}, "main"), ({"keyId": KEY_ID}, KEY_ID)]
)
def test_grant_needs_create_grant_on_its_key(users: Users, key: Json, rbac_name: str) -> None:
    """The right to use a key is no right to hand it on."""
    user = users.new()
    users.allow(user, GENERATE)
    users.allow(user, "creategrant", "another")
    with users.acting_as(user) as objects:
        body = build_grant(users.namespace, **key)
        text = refusal(objects.create, GRANTS, body)
        assert POLICIES[GRANTS] in text
        assert f'kmskeys/creategrant on key \\"{rbac_name}\\"' in text
        users.allow(user, "creategrant", rbac_name)
        objects.create(GRANTS, body)
        objects.delete(GRANTS, "g")


def test_grant_is_judged_in_its_own_namespace(users: Users, other: Users) -> None:
    """The right elsewhere gives none here."""
    user = users.new()
    other.allow(user, "creategrant")
    with users.acting_as(user) as objects:
        refusal(objects.create, GRANTS, build_grant(users.namespace, keyRef={"name": "main"}))


# Aliases.
@pytest.mark.parametrize(
    ("target", "rbac_name"), [({"targetKeyRef": {"name": "main"}}, "main"), ({"targetKeyId": KEY_ID}, KEY_ID)]
)
def test_alias_needs_create_alias_on_its_target(users: Users, target: Json, rbac_name: str) -> None:
    """A new alias lends its key to all with a right on the alias."""
    user = users.new()
    users.allow(user, "updatealias")
    with users.acting_as(user) as objects:
        text = refusal(objects.create, ALIASES, build_alias(users.namespace, **target))
        assert POLICIES[ALIASES] in text
        assert f'kmskeys/createalias on key \\"{rbac_name}\\"' in text
        users.allow(user, "createalias", rbac_name)
        objects.create(ALIASES, build_alias(users.namespace, **target))


@pytest.mark.parametrize(
    ("before", "change", "rbac_name"),
    [
        ({"targetKeyRef": {"name": "main"}}, {"targetKeyRef": {"name": "other"}}, "other"),
        ({"targetKeyRef": {"name": "main"}}, {"targetKeyRef": None, "targetKeyId": KEY_ID}, KEY_ID),
        ({"targetKeyId": OTHER_KEY_ID}, {"targetKeyId": KEY_ID}, KEY_ID),
    ],
    ids=["name-to-name", "name-to-id", "id-to-id"],
)
def test_repointing_an_alias_needs_update_alias_on_the_new_key(
    users: Users, administrator: Objects, before: Json, change: Json, rbac_name: str
) -> None:
    """Whoever may use an alias can't be led to a key by somebody without a right on that key."""
    administrator.create(ALIASES, build_alias(users.namespace, **before))
    user = users.new()
    users.allow(user, "createalias")
    users.allow(user, "updatealias", "main")
    with users.acting_as(user) as objects:
        text = refusal(objects.patch, ALIASES, "a", {"spec": change})
        assert f'kmskeys/updatealias on key \\"{rbac_name}\\"' in text
        users.allow(user, "updatealias", rbac_name)
        objects.patch(ALIASES, "a", {"spec": change})


def test_other_changes_of_an_alias_need_no_right_on_the_key(users: Users, administrator: Objects) -> None:
    """Labels, finalizers and deletion aren't judged."""
    administrator.create(ALIASES, build_alias(users.namespace, targetKeyRef={"name": "main"}))
    user = users.new()
    with users.acting_as(user) as objects:
        objects.patch(ALIASES, "a", {"metadata": {"labels": {"a": "b"}, "finalizers": ["x.example/y"]}})
        objects.delete(ALIASES, "a")
        objects.patch(ALIASES, "a", {"metadata": {"finalizers": None}})
        assert not objects.exists(ALIASES, "a")


# Key policies.
def test_key_without_policy_needs_no_further_right(users: Users) -> None:
    """Who may create KmsKeys creates them, and changes all but the policy."""
    user = users.new()
    with users.acting_as(user) as objects:
        objects.create_key("main", description="a")
        objects.patch(KEYS, "main", {"spec": {"description": "b", "enabled": False}})
        objects.delete(KEYS, "main")


def test_policy_of_a_new_key_needs_put_key_policy(users: Users) -> None:
    """The name of the KmsKey counts."""
    user = users.new()
    users.allow(user, "putkeypolicy", "another")
    with users.acting_as(user) as objects:
        text = refusal(objects.create_key, "main", policy=KEY_POLICY)
        assert POLICIES[KEYS] in text
        assert 'kmskeys/putkeypolicy on key \\"main\\"' in text
        users.allow(user, "putkeypolicy", "main")
        objects.create_key("main", policy=KEY_POLICY)


def test_generated_name_is_judged_too(users: Users) -> None:
    """With generateName the name is known before the policy is asked."""
    user = users.new()
    users.allow(user, "putkeypolicy", "main")
    body = build_key(users.namespace, "", policy=KEY_POLICY)
    body["metadata"] = {"generateName": "main-"}
    with users.acting_as(user) as objects:
        assert 'on key \\"main-' in refusal(objects.create, KEYS, body)
        users.allow(user, "putkeypolicy")
        assert objects.create(KEYS, body)


@pytest.mark.parametrize(
    ("before", "after"),
    [(None, KEY_POLICY), (KEY_POLICY, json.dumps({"Statement": [{}]})), (KEY_POLICY, None)],
    ids=["set", "changed", "removed"],
)
def test_every_change_of_a_policy_needs_put_key_policy(
    users: Users, administrator: Objects, before: str | None, after: str | None
) -> None:
    """Setting, changing and removing a policy all move rights."""
    administrator.create_key("main", **({"policy": before} if before else {}))
    user = users.new()
    with users.acting_as(user) as objects:
        text = refusal(objects.patch, KEYS, "main", {"spec": {"policy": after}})
        assert POLICIES[KEYS] in text
        users.allow(user, "putkeypolicy", "main")
        objects.patch(KEYS, "main", {"spec": {"policy": after}})


def test_key_with_policy_can_be_changed_otherwise(users: Users, administrator: Objects) -> None:
    """An update that leaves the policy as it is isn't judged, nor is deletion."""
    administrator.create_key("main", policy=KEY_POLICY)
    user = users.new()
    with users.acting_as(user) as objects:
        objects.patch(KEYS, "main", {"spec": {"enabled": False, "policy": KEY_POLICY}})
        objects.delete(KEYS, "main")


# What must go on working.
def test_controller_works_on_keys_with_policies(
    installation: Installation, users: Users, administrator: Objects
) -> None:
    """Its finalizer and status pass; a change of the policy by it would not."""
    administrator.create_key("main", policy=KEY_POLICY)
    administrator.create(ALIASES, build_alias(users.namespace, targetKeyRef={"name": "main"}))
    with installation.acting_as(CONTROLLER) as api:
        objects = Objects(api, users.namespace)
        finalizers: Json = {"metadata": {"finalizers": ["datakeys.dev/finalizer"]}}
        for plural, name in ((KEYS, "main"), (ALIASES, "a")):
            objects.patch(plural, name, finalizers)
        custom = client.CustomObjectsApi(api)
        status = {"status": {"keyId": KEY_ID}}
        custom.patch_namespaced_custom_object_status(GROUP, VERSION, users.namespace, KEYS, "main", status)
        assert POLICIES[KEYS] in refusal(objects.patch, KEYS, "main", {"spec": {"policy": None}})
        for plural, name in ((KEYS, "main"), (ALIASES, "a")):
            objects.patch(plural, name, {"metadata": {"finalizers": None}})


@pytest.mark.parametrize("remover", ["namespace-controller", "generic-garbage-collector"])
def test_removal_by_the_cluster_is_not_held_up(users: Users, administrator: Objects, remover: str) -> None:
    """The controllers that empty a namespace and collect dependents have no right on keys, and need none."""
    for plural, body in build_one_of_each(users.namespace).items():
        administrator.create(plural, body)
    with users.acting_as(f"system:serviceaccount:kube-system:{remover}") as objects:
        custom = client.CustomObjectsApi(objects.api)
        for plural, body in build_one_of_each(users.namespace).items():
            name = body["metadata"]["name"]
            if remover == "namespace-controller":
                custom.delete_collection_namespaced_custom_object(GROUP, VERSION, users.namespace, plural)
            else:
                objects.patch(plural, name, {"metadata": {"ownerReferences": []}})
                objects.delete(plural, name)
            assert not administrator.exists(plural, name)


def test_switch_removes_and_restores_the_checks(installation: Installation, users: Users) -> None:
    """An upgrade without checkCreators opens to all who may write objects; the next one closes again."""
    user = users.new()
    installation.upgrade({"admission.checkCreators": False})
    try:
        wait_policies(users, user, refuse=False)
    finally:
        installation.upgrade({"admission.checkCreators": True})
    wait_policies(users, user, refuse=True)
