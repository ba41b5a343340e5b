"""KmsKeys, KmsAliases and KmsGrants become keys, aliases and grants of the real key service."""

from custom_objects import ALIASES, GRANTS, KEYS, REQUESTS, SOON, Objects
from waiting import eventually


def test_key_gets_identity_and_state(objects: Objects) -> None:
    """A KmsKey becomes Ready with its ARN, key id, material id and creation date."""
    objects.create_key(description="orders", tags={"team": "shop"})
    objects.wait_ready("main", plural=KEYS)
    status = objects.get(KEYS, "main")["status"]
    assert status["arn"] == f"arn:k8s:kms:cluster-1:{objects.namespace}:key/{status['keyId']}"
    assert (status["keyState"], len(status["currentKeyMaterialId"])) == ("Enabled", 64)
    assert "deletionDate" not in status
    assert eventually(lambda: objects.event_reasons("main") == ["Created"])


def test_key_is_switched_off_and_on(objects: Objects) -> None:
    """Changing spec.enabled changes the key state and is told as Events."""
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    objects.patch(KEYS, "main", {"spec": {"enabled": False}})
    objects.wait_condition(KEYS, "main", "False", "Disabled")
    objects.patch(KEYS, "main", {"spec": {"enabled": True}})
    objects.wait_condition(KEYS, "main", "True", "Enabled")
    assert eventually(lambda: objects.event_reasons("main") == ["Created", "Disabled", "Enabled"])


def test_deleted_key_comes_back_with_its_name(objects: Objects) -> None:
    """Deleting a KmsKey schedules the deletion and frees the object; the same name gives the key back."""
    objects.create_key(deletion={"pendingWindowDays": 7})
    objects.wait_ready("main", plural=KEYS)
    first = objects.get(KEYS, "main")["status"]
    objects.create_request("before")
    objects.wait_ready("before")
    objects.delete(KEYS, "main")
    assert eventually(lambda: not objects.exists(KEYS, "main"))
    objects.create_request("during", keyId=first["arn"])
    objects.wait_condition(REQUESTS, "during", "False", "KMSInvalidStateException")
    objects.create_key()
    objects.wait_ready("main", plural=KEYS)
    second = objects.get(KEYS, "main")["status"]
    assert (second["keyId"], second["currentKeyMaterialId"]) == (
        first["keyId"],
        first["currentKeyMaterialId"],
    )
    objects.wait_ready("during", seconds=SOON)
    assert eventually(lambda: "DeletionScheduled" in objects.event_reasons("main"))


def test_refused_key_says_why(objects: Objects) -> None:
    """A KmsKey that the key service refuses has KMS's error name as reason; a corrected spec is applied."""
    objects.create_key(policy="not JSON")
    objects.wait_condition(KEYS, "main", "False")
    assert objects.condition(KEYS, "main")[1].endswith("Exception")
    objects.patch(KEYS, "main", {"spec": {"policy": None}})
    objects.wait_ready("main", plural=KEYS)


def test_key_that_was_never_made_can_be_deleted(objects: Objects) -> None:
    """A KmsKey that the key service refused goes without a call."""
    objects.create_key(policy="not JSON")
    objects.wait_condition(KEYS, "main", "False")
    objects.delete(KEYS, "main")
    assert eventually(lambda: not objects.exists(KEYS, "main"))


def test_alias_is_pointed_and_removed(objects: Objects) -> None:
    """An alias follows its target; deleting it leaves the key alone."""
    for name in ("one", "two"):
        objects.create_key(name)
    objects.create_manifest(ALIASES, "KmsAlias", "orders", {"targetKeyRef": {"name": "one"}})
    objects.wait_ready("orders", plural=ALIASES)
    arns = {name: objects.get(KEYS, name)["status"]["arn"] for name in ("one", "two")}
    status = objects.get(ALIASES, "orders")["status"]
    assert status["arn"] == f"arn:k8s:kms:cluster-1:{objects.namespace}:alias/orders"
    assert status["targetKeyArn"] == arns["one"]
    objects.patch(ALIASES, "orders", {"spec": {"targetKeyRef": {"name": "two"}}})
    assert eventually(lambda: objects.get(ALIASES, "orders")["status"]["targetKeyArn"] == arns["two"])
    objects.create_request("by-alias", keyId="alias/orders")
    objects.wait_ready("by-alias")
    assert objects.get(REQUESTS, "by-alias")["status"]["keyId"] == arns["two"]
    objects.delete(ALIASES, "orders")
    assert eventually(lambda: not objects.exists(ALIASES, "orders"))
    objects.create_request("after", keyId="alias/orders")
    objects.wait_condition(REQUESTS, "after", "False", "NotFoundException")
    assert objects.condition(KEYS, "two")[0] == "True"


def test_alias_name_belongs_to_one_object(objects: Objects) -> None:
    """A second KmsAlias of the name changes nothing and says whose it is, and gets it once that is gone."""
    for name in ("one", "two"):
        objects.create_key(name)
    objects.create_manifest(ALIASES, "KmsAlias", "orders", {"targetKeyRef": {"name": "one"}})
    objects.wait_ready("orders", plural=ALIASES)
    spec = {"aliasName": "alias/orders", "targetKeyRef": {"name": "two"}}
    objects.create_manifest(ALIASES, "KmsAlias", "copy", spec)
    objects.wait_condition(ALIASES, "copy", "False", "AlreadyExistsException")
    assert "KmsAlias orders has alias/orders" in objects.condition(ALIASES, "copy")[2]
    objects.delete(ALIASES, "orders")
    objects.wait_ready("copy", plural=ALIASES)


def test_alias_waits_for_its_key(objects: Objects) -> None:
    """An alias that is applied before its key becomes Ready once the key is there."""
    objects.create_manifest(ALIASES, "KmsAlias", "orders", {"targetKeyRef": {"name": "main"}})
    objects.create_key()
    objects.wait_ready("orders", plural=ALIASES)


def test_grant_is_made_and_revoked(objects: Objects) -> None:
    """A KmsGrant gets id and token; deleting it revokes the grant."""
    objects.create_key()
    objects.create_manifest(
        GRANTS,
        "KmsGrant",
        "reader",
        {
            "keyRef": {"name": "main"},
            "granteePrincipal": {"serviceAccountName": "reporting", "namespace": "reports"},
            "operations": ["Decrypt"],
            "constraints": {"encryptionContextSubset": {"tenant": "a"}},
        },
    )
    objects.wait_ready("reader", plural=GRANTS)
    status = objects.get(GRANTS, "reader")["status"]
    assert status["grantId"]
    assert status["grantToken"]
    assert status["keyArn"] == objects.get(KEYS, "main")["status"]["arn"]
    objects.delete(GRANTS, "reader")
    assert eventually(lambda: not objects.exists(GRANTS, "reader"))
    assert eventually(lambda: objects.event_reasons("reader") == ["Created", "Deleted"])
