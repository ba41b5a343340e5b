"""Versions of a data key on a real API server: what the CRD lets through, and what becomes of it."""

from typing import Any

import pytest
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from controller_rig import Rig
from custom_objects import KEYS, REQUESTS, Objects
from datakeys.contract.identity import GROUP, VERSION
from pod_caller import decrypt, start_pod
from waiting import eventually

BLOBS = {"ciphertextBlob": "Zmlyc3Q=", "keyId": "arn", "keyMaterialId": "m1"}
SECOND = {"ciphertextBlob": "c2Vjb25k", "keyId": "arn", "keyMaterialId": "m1"}
FIRST_KEPT = {"version": 1, "secretName": "orders", **BLOBS}
RENEWED = {
    "ciphertextBlob": "cmVuZXdlZA==",
    "keyId": "arn",
    "keyMaterialId": "m2",
    "formerCiphertextBlob": BLOBS["ciphertextBlob"],
    "formerKeyMaterialId": "m1",
}


def status_of(objects: Objects) -> dict[str, Any]:
    """Return the request's status."""
    return dict(objects.get(REQUESTS, "orders").get("status") or {})


def raise_version(objects: Objects, version: int) -> dict[str, Any]:
    """Ask for a version; return the status in which it is the current one."""
    objects.patch(REQUESTS, "orders", {"spec": {"version": version}})
    assert eventually(lambda: status_of(objects).get("version") == version), status_of(objects)
    objects.wait_ready("orders")
    return status_of(objects)


def issue(objects: Objects, **spec: Any) -> dict[str, Any]:
    """Make a key and a request; return the request's status."""
    objects.create_key()
    objects.create_request("orders", **spec)
    objects.wait_ready("orders")
    return status_of(objects)


def test_both_versions_are_decrypted_by_the_same_pod_and_differ(rig: Rig, objects: Objects) -> None:
    first = issue(objects)
    pod = start_pod(rig, objects.namespace)
    second = raise_version(objects, 2)
    (previous,) = second["previousVersions"]
    assert (previous["version"], previous["ciphertextBlob"]) == (1, first["ciphertextBlob"])
    assert second["secretRef"] == {"name": "orders.v2"}
    assert objects.secret("orders").data["ciphertextBlob"] == first["ciphertextBlob"]
    assert objects.secret("orders.v2").data["ciphertextBlob"] == second["ciphertextBlob"]
    plaintexts = {
        decrypt(pod, blob, objects.namespace, "orders")
        for blob in (first["ciphertextBlob"], second["ciphertextBlob"])
    }
    assert len(plaintexts) == 2


def test_deleted_secrets_of_all_versions_come_back(objects: Objects) -> None:
    issue(objects)
    raise_version(objects, 2)
    before = {name: objects.secret(name) for name in ("orders", "orders.v2")}
    for name in before:
        objects.delete_secret(name)
    for name, secret in before.items():
        assert eventually(lambda name=name: objects.secret(name) is not None)  # type: ignore[misc]
        assert objects.secret(name).data == secret.data


def test_a_taken_name_holds_up_the_new_version_only(objects: Objects) -> None:
    """The condition names the Secret; the first version stays; once the name is free it goes on."""
    first = issue(objects)
    objects.create_secret("orders.v2", password="mine")
    objects.patch(REQUESTS, "orders", {"spec": {"version": 2}})
    message = objects.wait_condition(REQUESTS, "orders", "False", "Conflict")
    assert "orders.v2" in message
    kept = ("version", "ciphertextBlob", "secretRef")
    assert {name: status_of(objects)[name] for name in kept} == {name: first[name] for name in kept}
    assert objects.secret("orders.v2").data.keys() == {"password"}
    objects.delete_secret("orders.v2")
    objects.wait_ready("orders")
    assert status_of(objects)["version"] == 2


def test_all_versions_are_re_encrypted(rig: Rig, objects: Objects) -> None:
    issue(objects)
    before = raise_version(objects, 2)
    pod = start_pod(rig, objects.namespace)
    spec = {"rotateOnDemand": "now", "reEncryption": {"enabled": True}}
    objects.patch(KEYS, "main", {"spec": spec})

    def renewed() -> bool:
        status = status_of(objects)
        return "formerCiphertextBlob" in status and "formerCiphertextBlob" in status["previousVersions"][0]

    assert eventually(renewed), status_of(objects)
    after = status_of(objects)
    pairs = [(before, after), (before["previousVersions"][0], after["previousVersions"][0])]
    for old, new in pairs:
        assert new["formerCiphertextBlob"] == old["ciphertextBlob"] != new["ciphertextBlob"]
        opened = [decrypt(pod, it["ciphertextBlob"], objects.namespace, "orders") for it in (old, new)]
        assert opened[0] == opened[1]
    for name, (_, new) in zip(("orders.v2", "orders"), pairs, strict=True):
        assert eventually(
            lambda name=name, new=new: (  # type: ignore[misc]
                (secret := objects.secret(name)) is not None
                and secret.data["ciphertextBlob"] == new["ciphertextBlob"]
            )
        )


def test_the_oldest_version_on_offer_can_be_raised_and_lowered(objects: Objects) -> None:
    """It takes nothing away: status and Secrets stay."""
    issue(objects)
    before = raise_version(objects, 2)
    for oldest in (2, 1):
        objects.patch(REQUESTS, "orders", {"spec": {"oldestVersion": oldest}})
        generation = objects.get(REQUESTS, "orders")["metadata"]["generation"]
        assert eventually(lambda: status_of(objects)["observedGeneration"] == generation)  # noqa: B023
        kept = ("ciphertextBlob", "previousVersions")
        assert {name: status_of(objects)[name] for name in kept} == {name: before[name] for name in kept}
        assert objects.secret("orders") is not None


def refusal(objects: Objects, plural: str, name: str, body: dict[str, Any]) -> str:
    """Return why a patch is refused."""
    with pytest.raises(ApiException) as caught:
        objects.patch(plural, name, body)
    assert caught.value.status == 422
    return str(caught.value.body)


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"version": 4}, "raised by one"),
        ({"version": 1}, "raised by one"),
        ({"version": 17}, "less than or equal to 16"),
        ({"version": 0}, "greater than or equal to 1"),
        ({"oldestVersion": 3}, "can't be above version"),
        ({"version": 3, "serviceAccountName": "other"}, "immutable"),
        ({"secretName": "other"}, "immutable"),
        ({"encryptionContext": {"a": "b"}}, "immutable"),
        ({"dryRun": True}, "immutable"),
    ],
)
def test_versions_only_grow_and_nothing_else_changes(
    objects: Objects, spec: dict[str, Any], text: str
) -> None:
    objects.create_request("orders", version=2)
    assert text in refusal(objects, REQUESTS, "orders", {"spec": spec})


@pytest.mark.parametrize(
    ("spec", "text"),
    [
        ({"version": 2, "dryRun": True}, "no versions"),
        ({"version": 2, "secretName": "s" * 250}, "at most 249 characters"),
        ({"version": 1, "oldestVersion": 2}, "can't be above version"),
    ],
)
def test_versions_that_could_never_be_made_are_refused(
    objects: Objects, spec: dict[str, Any], text: str
) -> None:
    with pytest.raises(ApiException) as caught:
        objects.create_request("orders", **spec)
    assert text in str(caught.value.body)


class Statuses:
    """Writes of a status, as the controller makes them, to a request that the controller can't issue."""

    def __init__(self, objects: Objects) -> None:
        objects.create_request("orders", key="none", version=2)
        self._objects = objects

    def write(self, status: dict[str, Any]) -> None:
        """Merge a patch into the status."""
        api: Any = client.CustomObjectsApi(self._objects.api)
        api.patch_namespaced_custom_object_status(
            GROUP,
            VERSION,
            self._objects.namespace,
            REQUESTS,
            "orders",
            {"status": status},
            _content_type="application/merge-patch+json",
        )


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (BLOBS, RENEWED),
        (BLOBS, {"version": 2, **SECOND, "previousVersions": [FIRST_KEPT]}),
        (BLOBS, {"version": 2, **SECOND, "previousVersions": [{**FIRST_KEPT, **RENEWED}]}),
        (
            {"version": 2, **SECOND, "previousVersions": [FIRST_KEPT]},
            {"previousVersions": [{**FIRST_KEPT, **RENEWED}]},
        ),
        (RENEWED, {"formerCiphertextBlob": None, "formerKeyMaterialId": None}),
    ],
    ids=["re-encrypted", "new version", "both at once", "older one re-encrypted", "former one given up"],
)
def test_a_ciphertext_moves_within_the_status(
    objects: Objects, before: dict[str, Any], after: dict[str, Any]
) -> None:
    statuses = Statuses(objects)
    statuses.write(before)
    statuses.write(after)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (BLOBS, {"ciphertextBlob": SECOND["ciphertextBlob"]}),
        (BLOBS, {"version": 2, **SECOND}),
        (BLOBS, {"version": 2, **SECOND, "previousVersions": [{**FIRST_KEPT, **SECOND}]}),
        (BLOBS, {"version": 2, **SECOND, "formerCiphertextBlob": BLOBS["ciphertextBlob"]}),
        (RENEWED, {**SECOND, "formerCiphertextBlob": BLOBS["ciphertextBlob"]}),
        ({"version": 2, **SECOND, "previousVersions": [FIRST_KEPT]}, {"previousVersions": None}),
        ({"version": 2, **SECOND, "previousVersions": [FIRST_KEPT]}, {"previousVersions": []}),
        (
            {"version": 2, **SECOND, "previousVersions": [FIRST_KEPT]},
            {"previousVersions": [{**FIRST_KEPT, **SECOND}]},
        ),
        (
            {"version": 2, **SECOND, "previousVersions": [FIRST_KEPT]},
            {"version": 1, **BLOBS, "previousVersions": [{"version": 2, "secretName": "s", **SECOND}]},
        ),
    ],
    ids=[
        "changed",
        "forgotten",
        "replaced",
        "in the wrong version",
        "only the one before is kept",
        "previous removed",
        "previous emptied",
        "previous replaced",
        "order turned round",
    ],
)
def test_a_ciphertext_never_vanishes_from_the_status(
    objects: Objects, before: dict[str, Any], after: dict[str, Any]
) -> None:
    statuses = Statuses(objects)
    statuses.write(before)
    with pytest.raises(ApiException) as caught:
        statuses.write(after)
    assert caught.value.status == 422
    assert "previousVersions" in str(caught.value.body) or "ciphertextBlob" in str(caught.value.body)


@pytest.mark.parametrize(
    ("spec", "field"),
    [
        ({"keySpec": "HMAC_256", "keyUsage": "GENERATE_VERIFY_MAC", "rotateOnDemand": "x"}, "rotateOnDemand"),
        (
            {"keySpec": "HMAC_256", "keyUsage": "GENERATE_VERIFY_MAC", "reEncryption": {"enabled": True}},
            "reEncryption.enabled",
        ),
        ({"rotateOnDemand": ""}, "rotateOnDemand"),
        ({"reEncryption": {"requestsPerSecond": 0}}, "reEncryption.requestsPerSecond"),
        ({"reEncryption": {"requestsPerSecond": 201}}, "reEncryption.requestsPerSecond"),
    ],
)
def test_keys_that_can_not_rotate_refuse_the_wish(objects: Objects, spec: dict[str, Any], field: str) -> None:
    with pytest.raises(ApiException) as caught:
        objects.create_key("other", **spec)
    assert field in str(caught.value.body)
