"""Rotation by schedule and on demand: new material for new ciphertext, old ciphertext for ever."""

import asyncio
import contextlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from cluster_api_fake import FakeClusterApi
from datakeys.contract.errors import (
    AccessDeniedError,
    ConflictError,
    DependencyTimeoutError,
    InvalidMarkerError,
    KeyDisabledError,
    KeyStateError,
    LimitExceededError,
    NotFoundError,
    SerializationError,
    UnsupportedOperationError,
    ValidationError,
)
from datakeys.keyservice.operations.call import Call
from datakeys.keyservice.operations.chores import build_chores
from datakeys.keyservice.server.metrics import RequestMetrics, render
from datakeys.keyservice.store.schedule import ScheduledTask
from keyservice_rig import CONTROLLER, START, DispatchRig, Rig, account, bound, pod
from material_rig import (
    Replica,
    create_external_key,
    decrypt,
    import_material,
    make_task,
    rotations,
    set_state,
)

DAY = 86_400
ROTATION_OPERATIONS = (
    "EnableKeyRotation",
    "DisableKeyRotation",
    "GetKeyRotationStatus",
    "RotateKeyOnDemand",
    "ListKeyRotations",
)
BY_SCHEDULE = ("EnableKeyRotation", "DisableKeyRotation", "GetKeyRotationStatus")


def status(rig: Rig, arn: str) -> dict[str, Any]:
    return rig.call("GetKeyRotationStatus", {"KeyId": arn})


def current_material(rig: Rig, arn: str) -> str:
    return str(rig.call("DescribeKey", {"KeyId": arn})["KeyMetadata"]["CurrentKeyMaterialId"])


class TestSchedule:
    """EnableKeyRotation, DisableKeyRotation, GetKeyRotationStatus."""

    def test_a_new_key_does_not_rotate(self, rig: Rig) -> None:
        """Rotation is off, and nothing is said about a date."""
        arn = rig.create_key()
        assert status(rig, arn) == {"KeyId": arn.rpartition("/")[2], "KeyRotationEnabled": False}
        assert rotations(rig, arn) == []

    @pytest.mark.parametrize(
        ("members", "days"),
        [({}, 365), ({"RotationPeriodInDays": 90}, 90), ({"RotationPeriodInDays": 2560}, 2560)],
    )
    def test_enabling_sets_period_and_date(self, rig: Rig, members: dict[str, int], days: int) -> None:
        """The first rotation comes one period after the call; without a period it is a year."""
        arn = rig.create_key()
        assert rig.call("EnableKeyRotation", {"KeyId": arn, **members}) == {}
        assert status(rig, arn) == {
            "KeyId": arn.rpartition("/")[2],
            "KeyRotationEnabled": True,
            "RotationPeriodInDays": days,
            "NextRotationDate": START + days * DAY,
        }

    @pytest.mark.parametrize("days", [89, 0, -1, 2561])
    def test_period_out_of_bounds(self, rig: Rig, days: int) -> None:
        """90..2560 days; the message names the member."""
        arn = rig.create_key()
        with pytest.raises(ValidationError, match="rotationPeriodInDays"):
            rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": days})

    @pytest.mark.parametrize("value", ["90", 90.5, True, [90]])
    def test_period_of_another_type(self, rig: Rig, value: object) -> None:
        """A period is an integer."""
        with pytest.raises(SerializationError):
            rig.call("EnableKeyRotation", {"KeyId": rig.create_key(), "RotationPeriodInDays": value})

    def test_repeating_leaves_the_date_changing_moves_it(self, rig: Rig) -> None:
        """The same call again changes nothing; another period counts from now."""
        arn = rig.create_key()
        rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 100})
        rig.clock.now += 10 * DAY
        rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 100})
        assert status(rig, arn)["NextRotationDate"] == START + 100 * DAY
        rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 200})
        assert status(rig, arn)["NextRotationDate"] == START + 210 * DAY
        assert status(rig, arn)["RotationPeriodInDays"] == 200

    def test_disabling_ends_it(self, rig: Rig) -> None:
        """After DisableKeyRotation, which may be repeated, nothing rotates any more."""
        arn = rig.create_key()
        rig.call("EnableKeyRotation", {"KeyId": arn})
        for _ in range(2):
            assert rig.call("DisableKeyRotation", {"KeyId": arn}) == {}
        assert status(rig, arn)["KeyRotationEnabled"] is False
        rig.clock.now += 400 * DAY
        make_task(rig).perform_due()
        assert rotations(rig, arn) == []

    def test_pending_deletion_hides_the_schedule(self, rig: Rig) -> None:
        """The status is false while the key is pending deletion, and comes back with the key."""
        arn = rig.create_key()
        rig.call("EnableKeyRotation", {"KeyId": arn})
        rig.call("ScheduleKeyDeletion", {"KeyId": arn})
        assert status(rig, arn) == {"KeyId": arn.rpartition("/")[2], "KeyRotationEnabled": False}
        rig.call("CancelKeyDeletion", {"KeyId": arn})
        assert status(rig, arn)["NextRotationDate"] == START + 365 * DAY


class TestAutomatic:
    """What the task does with the schedule."""

    def test_rotates_at_the_date_and_not_before(self, rig: Rig) -> None:
        """At the date there is new material, and the next date is one period later."""
        arn, task = rig.create_key(), make_task(rig)
        first = current_material(rig, arn)
        rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 90})
        rig.clock.now += 90 * DAY - 1
        assert task.perform_due() == 0
        assert current_material(rig, arn) == first
        rig.clock.now += 1
        assert task.perform_due() == 0
        assert current_material(rig, arn) != first
        assert status(rig, arn)["NextRotationDate"] == START + 180 * DAY
        assert task.perform_due() == 0
        assert task.counts == {"destruction": 0, "expiry": 0, "rotation": 1}

    def test_old_ciphertext_decrypts_after_many_rotations(self, rig: Rig) -> None:
        """Each blob opens with its own material, which the answer names."""
        arn, task = rig.create_key(), make_task(rig)
        rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 90})
        made = {}
        for _ in range(5):
            blob = rig.data_key(arn)
            made[blob] = (current_material(rig, arn), decrypt(rig, blob)["Plaintext"])
            rig.clock.now += 90 * DAY
            task.perform_due()
        assert len({material for material, _ in made.values()}) == 5
        for blob, (material, plaintext) in made.items():
            answer = decrypt(rig, blob)
            assert (answer["KeyMaterialId"], answer["Plaintext"]) == (material, plaintext)

    def test_new_ciphertext_uses_new_material_at_once(self, rig: Rig) -> None:
        """The first data key after a rotation names the new material."""
        arn = rig.create_key()
        body = {"KeyId": arn, "KeySpec": "AES_256", "EncryptionContext": bound()}
        before = rig.call("GenerateDataKeyWithoutPlaintext", body)
        rig.call("RotateKeyOnDemand", {"KeyId": arn})
        after = rig.call("GenerateDataKeyWithoutPlaintext", body)
        assert before["KeyMaterialId"] != after["KeyMaterialId"] == current_material(rig, arn)

    def test_a_disabled_key_rotates_once_it_is_enabled(self, rig: Rig) -> None:
        """However many dates it has missed, it rotates once, and then a period later."""
        arn, task = rig.create_key(), make_task(rig)
        rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 90})
        rig.call("DisableKey", {"KeyId": arn})
        rig.clock.now += 300 * DAY
        assert task._sleep_seconds() > 0
        task.perform_due()
        assert rotations(rig, arn) == []
        rig.call("EnableKey", {"KeyId": arn})
        assert task._sleep_seconds() == 0
        task.perform_due()
        task.perform_due()
        assert [entry["RotationType"] for entry in rotations(rig, arn)] == ["AUTOMATIC"]
        assert status(rig, arn)["NextRotationDate"] == START + 390 * DAY

    def test_a_key_that_must_go_is_destroyed_and_not_rotated(self, rig: Rig) -> None:
        """A key pending deletion never rotates, and goes at its date."""
        arn, task = rig.create_key(), make_task(rig)
        rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 90})
        rig.clock.now += 80 * DAY
        rig.call("ScheduleKeyDeletion", {"KeyId": arn, "PendingWindowInDays": 30})
        rig.clock.now += 15 * DAY
        task.perform_due()
        assert rotations(rig, arn) == []
        rig.clock.now += 15 * DAY
        task.perform_due()
        assert task.counts == {"destruction": 1, "expiry": 0, "rotation": 0}

    def test_failure_is_tried_again(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        """An unreachable store leaves the rotation for the next round."""
        arn, task = rig.create_key(), make_task(rig)
        rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 90})
        rig.clock.now += 90 * DAY

        def fail(*_: object) -> None:
            raise DependencyTimeoutError("away")

        with monkeypatch.context() as patch:
            patch.setattr(rig.store, "update_key", fail)
            assert task.perform_due() == 1
        assert rotations(rig, arn) == []
        assert task.perform_due() == 0
        assert len(rotations(rig, arn)) == 1

    def test_log_line_and_metric(self, rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
        """A rotation leaves one log line with the key's names, and counts."""
        arn, task = rig.create_key(), make_task(rig)
        rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 90})
        rig.clock.now += 90 * DAY
        with caplog.at_level(logging.INFO):
            task.perform_due()
        lines = [record for record in caplog.records if record.getMessage() == "key rotated"]
        assert [(vars(line)["key_id"], vars(line)["namespace"]) for line in lines] == [
            (arn.rpartition("/")[2], "team-a")
        ]
        metrics = RequestMetrics()
        metrics.add_counter("scheduled_changes", "Text.", "kind", lambda: task.counts)
        assert b'datakeys_keyservice_scheduled_changes_total{kind="rotation"} 1.0' in render(metrics)

    async def test_the_task_sleeps_until_the_date(self, rig: Rig) -> None:
        """A schedule that comes up while the task sleeps wakes it."""
        arn = rig.create_key()
        with ThreadPoolExecutor(1) as executor:
            task = ScheduledTask(rig.store, executor, rig.clock, build_chores(rig.service))
            rig.store.index.listeners.append(task.wake)
            running = asyncio.ensure_future(task.run())
            await asyncio.sleep(0.02)
            rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 90})
            rig.clock.now += 90 * DAY
            rig.create_key()
            async with asyncio.timeout(60):
                while not task.counts["rotation"]:  # noqa: ASYNC110 - the store has no event
                    await asyncio.sleep(0.01)
            running.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await running


class TestReplicas:
    """Two replicas on one cluster."""

    def test_one_rotation_for_two_replicas(self, rig: Rig, api: FakeClusterApi) -> None:
        """Both find the key due; the second sees in the newest version that it is done."""
        one, two = Replica(rig, api), Replica(rig, api)
        rig.service = one.service
        arn = rig.create_key()
        key_id = arn.rpartition("/")[2]
        rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 90})
        two.watcher.list_all()
        old = rig.data_key(arn)
        rig.clock.now += 90 * DAY
        assert one.task.perform_due() == 0
        behind = two.store.find_key(key_id)
        assert behind is not None
        assert len(behind.materials) == 1
        assert two.task.perform_due() == 0
        assert (one.task.counts["rotation"], two.task.counts["rotation"]) == (1, 0)
        first, second = one.store.find_key(key_id), two.store.find_key(key_id)
        assert first == second
        assert first is not None
        assert len(first.materials) == 2
        rig.service = two.service
        assert decrypt(rig, old)["KeyMaterialId"] == first.materials[0].material_id

    def test_both_at_the_same_moment(self, rig: Rig, api: FakeClusterApi) -> None:
        """Threads that race for many keys rotate each exactly once."""
        replicas = [Replica(rig, api) for _ in range(2)]
        rig.service = replicas[0].service
        ids = []
        for _ in range(10):
            arn = rig.create_key()
            ids.append(arn.rpartition("/")[2])
            rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 90})
        replicas[1].watcher.list_all()
        rig.clock.now += 90 * DAY
        with ThreadPoolExecutor(2) as executor:
            failed = list(executor.map(lambda replica: replica.task.perform_due(), replicas))
        assert failed == [0, 0]
        assert sum(replica.task.counts["rotation"] for replica in replicas) == 10
        for replica in replicas:
            replica.watcher.list_all()
            for key_id in ids:
                record = replica.store.find_key(key_id)
                assert record is not None
                assert len(record.materials) == 2

    async def test_a_replica_that_is_behind(self, rig: Rig, api: FakeClusterApi, audit_file: Path) -> None:
        """What one replica encrypts after a rotation, another opens before its watch has told it."""
        rig.clock.now = time.time()  # tokens are checked against the real time
        one, two = Replica(rig, api), Replica(rig, api)
        rig.service = one.service
        arn = rig.create_key()
        two.watcher.list_all()
        rig.call("RotateKeyOnDemand", {"KeyId": arn})
        blob = rig.data_key(arn)
        behind = two.store.find_key(arn.rpartition("/")[2])
        assert behind is not None
        assert len(behind.materials) == 1
        rig.service = two.service
        with audit_file.open("wb") as audit:
            dispatch_rig = DispatchRig(audit.fileno(), rig)
            token = dispatch_rig.issuer.token("team-a", "app", in_pod=True)
            body = {"CiphertextBlob": blob, "EncryptionContext": bound()}
            status_code, answer, _ = await dispatch_rig.send("Decrypt", body, token)
            dispatch_rig.close()
        assert status_code == 200, answer
        assert answer["KeyMaterialId"] == current_material(rig, arn)

    async def test_other_replicas_use_new_material_when_the_watch_delivers(
        self, rig: Rig, api: FakeClusterApi
    ) -> None:
        """A rotation reaches the other replica's next data key by its watch."""
        one, two = Replica(rig, api), Replica(rig, api)
        rig.service = one.service
        arn = rig.create_key()
        two.watcher.start()
        await asyncio.to_thread(two.watcher.synced.wait, 60)
        rig.call("RotateKeyOnDemand", {"KeyId": arn})
        new = current_material(rig, arn)
        rig.service = two.service
        async with asyncio.timeout(60):
            while current_material(rig, arn) != new:  # noqa: ASYNC110 - the store has no event
                await asyncio.sleep(0.01)
        two.watcher.stop()
        assert decrypt(rig, rig.data_key(arn))["KeyMaterialId"] == new


class TestOnDemand:
    """RotateKeyOnDemand."""

    def test_leaves_the_schedule_alone(self, rig: Rig) -> None:
        """The next automatic date stays."""
        arn = rig.create_key()
        rig.call("EnableKeyRotation", {"KeyId": arn})
        rig.clock.now += DAY
        assert rig.call("RotateKeyOnDemand", {"KeyId": arn}) == {"KeyId": arn.rpartition("/")[2]}
        assert status(rig, arn)["NextRotationDate"] == START + 365 * DAY

    def test_at_most_25(self, rig: Rig) -> None:
        """The 26th is refused and changes nothing; automatic ones don't count and go on."""
        arn, task = rig.create_key(), make_task(rig)
        rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 90})
        rig.clock.now += 90 * DAY
        task.perform_due()
        for _ in range(25):
            rig.call("RotateKeyOnDemand", {"KeyId": arn})
        before = current_material(rig, arn)
        with pytest.raises(LimitExceededError):
            rig.call("RotateKeyOnDemand", {"KeyId": arn})
        assert current_material(rig, arn) == before
        rig.clock.now += 90 * DAY
        task.perform_due()
        assert current_material(rig, arn) != before

    @pytest.mark.parametrize(("seconds", "refused"), [(1201, False), (1200, True), (1, True), (-5, True)])
    def test_conflict_with_an_automatic_rotation(self, rig: Rig, seconds: int, *, refused: bool) -> None:
        """Within the twenty minutes before an automatic rotation, and while it is overdue, it is refused."""
        arn = rig.create_key()
        rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 90})
        rig.clock.now += 90 * DAY - seconds
        if not refused:
            rig.call("RotateKeyOnDemand", {"KeyId": arn})
            return
        with pytest.raises(ConflictError):
            rig.call("RotateKeyOnDemand", {"KeyId": arn})

    def test_imported_material_must_wait_for_it(self, rig: Rig) -> None:
        """A key with imported material rotates to what was imported for it."""
        arn = create_external_key(rig)
        first = import_material(rig, arn, b"1" * 32)
        with pytest.raises(KeyStateError, match="PENDING_ROTATION"):
            rig.call("RotateKeyOnDemand", {"KeyId": arn})
        old = rig.data_key(arn)
        second = import_material(rig, arn, b"2" * 32, ImportType="NEW_KEY_MATERIAL")
        assert current_material(rig, arn) == first
        rig.call("RotateKeyOnDemand", {"KeyId": arn})
        assert current_material(rig, arn) == second
        assert decrypt(rig, old)["KeyMaterialId"] == first
        assert decrypt(rig, rig.data_key(arn))["KeyMaterialId"] == second
        with pytest.raises(KeyStateError, match="PENDING_ROTATION"):
            rig.call("RotateKeyOnDemand", {"KeyId": arn})


class TestList:
    """ListKeyRotations."""

    def test_types_dates_and_states(self, rig: Rig) -> None:
        """Oldest first; the first material only with ALL_KEY_MATERIAL, without date and type."""
        arn, task = rig.create_key(), make_task(rig)
        first = current_material(rig, arn)
        rig.clock.now += DAY
        rig.call("RotateKeyOnDemand", {"KeyId": arn})
        second = current_material(rig, arn)
        rig.call("EnableKeyRotation", {"KeyId": arn, "RotationPeriodInDays": 90})
        rig.clock.now += 90 * DAY
        task.perform_due()
        key_id = arn.rpartition("/")[2]
        expected: list[dict[str, Any]] = [
            {"KeyMaterialId": first, "KeyMaterialState": "NON_CURRENT"},
            {
                "KeyMaterialId": second,
                "KeyMaterialState": "NON_CURRENT",
                "RotationDate": START + DAY,
                "RotationType": "ON_DEMAND",
            },
            {
                "KeyMaterialId": current_material(rig, arn),
                "KeyMaterialState": "CURRENT",
                "RotationDate": START + 91 * DAY,
                "RotationType": "AUTOMATIC",
            },
        ]
        expected = [{"KeyId": key_id, **entry} for entry in expected]
        assert rotations(rig, arn, IncludeKeyMaterial="ALL_KEY_MATERIAL") == expected
        assert rotations(rig, arn, IncludeKeyMaterial="ROTATIONS_ONLY") == expected[1:]
        assert rotations(rig, arn) == expected[1:]

    def test_imported_material(self, rig: Rig) -> None:
        """Imported material shows description, expiry, and whether it is there."""
        arn = create_external_key(rig)
        one = import_material(rig, arn, b"1" * 32, KeyMaterialDescription="first one")
        two = import_material(rig, arn, b"2" * 32, ImportType="NEW_KEY_MATERIAL", ValidTo=START + DAY)
        rig.call("DeleteImportedKeyMaterial", {"KeyId": arn})
        common = {"KeyId": arn.rpartition("/")[2]}
        assert rotations(rig, arn) == []
        assert rotations(rig, arn, IncludeKeyMaterial="ALL_KEY_MATERIAL") == [
            {
                **common,
                "KeyMaterialId": one,
                "KeyMaterialDescription": "first one",
                "KeyMaterialState": "CURRENT",
                "ImportState": "PENDING_IMPORT",
                "ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE",
            },
            {
                **common,
                "KeyMaterialId": two,
                "KeyMaterialState": "PENDING_ROTATION",
                "ImportState": "IMPORTED",
                "ExpirationModel": "KEY_MATERIAL_EXPIRES",
                "ValidTo": START + DAY,
            },
        ]

    def test_pages(self, rig: Rig) -> None:
        """Pages neither lose nor repeat an entry."""
        arn = rig.create_key()
        for _ in range(7):
            rig.call("RotateKeyOnDemand", {"KeyId": arn})
        seen: list[str] = []
        marker: dict[str, str] = {}
        while True:
            answer = rig.call("ListKeyRotations", {"KeyId": arn, "Limit": 3, **marker})
            seen += [entry["KeyMaterialId"] for entry in answer["Rotations"]]
            if not answer["Truncated"]:
                break
            marker = {"Marker": answer["NextMarker"]}
        assert "NextMarker" not in answer
        assert seen == [entry["KeyMaterialId"] for entry in rotations(rig, arn)]
        assert len(seen) == 7

    @pytest.mark.parametrize(
        ("members", "error"),
        [
            ({"Limit": 0}, ValidationError),
            ({"Limit": 1001}, ValidationError),
            ({"IncludeKeyMaterial": "SOME"}, ValidationError),
            ({"Marker": "?"}, InvalidMarkerError),
            ({"Marker": ""}, ValidationError),
            ({"Limit": "3"}, SerializationError),
        ],
    )
    def test_errors(self, rig: Rig, members: dict[str, Any], error: type[Exception]) -> None:
        """Bad members give their error."""
        arn = rig.create_key()
        with pytest.raises(error):
            rotations(rig, arn, **members)


class TestRefusals:
    """Who and what is refused, the same for all five operations."""

    @pytest.mark.parametrize("operation", ROTATION_OPERATIONS)
    @pytest.mark.parametrize(
        "members",
        [
            {"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"},
            {"KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT"},
            {"KeySpec": "HMAC_256", "KeyUsage": "GENERATE_VERIFY_MAC"},
            {"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY", "Origin": "EXTERNAL"},
        ],
    )
    @pytest.mark.parametrize("state", ["Enabled", "Disabled", "PendingDeletion", "Unavailable"])
    def test_keys_that_never_rotate(
        self, rig: Rig, operation: str, members: dict[str, str], state: str
    ) -> None:
        """Asymmetric and HMAC keys are unsupported, whatever their state."""
        arn = rig.create_key(**members)
        set_state(rig, arn, state)
        with pytest.raises(UnsupportedOperationError):
            rig.call(operation, {"KeyId": arn})

    @pytest.mark.parametrize("operation", ROTATION_OPERATIONS)
    @pytest.mark.parametrize("origin", ["AWS_CLOUDHSM", "EXTERNAL_KEY_STORE"])
    def test_custom_key_stores(self, rig: Rig, operation: str, origin: str) -> None:
        """Keys of a custom key store are unsupported."""
        arn = rig.create_key(Origin=origin, CustomKeyStoreId="cks-1")
        with pytest.raises(UnsupportedOperationError):
            rig.call(operation, {"KeyId": arn})

    @pytest.mark.parametrize("operation", BY_SCHEDULE)
    @pytest.mark.parametrize("state", ["PendingImport", "Enabled", "Disabled"])
    def test_imported_material_has_no_schedule(self, rig: Rig, operation: str, state: str) -> None:
        """Keys with imported material can't rotate by schedule, in no state."""
        arn = create_external_key(rig)
        set_state(rig, arn, state)
        with pytest.raises(UnsupportedOperationError):
            rig.call(operation, {"KeyId": arn})

    @pytest.mark.parametrize(
        ("operation", "row"),
        [
            ("EnableKeyRotation", "ok D S S S S ok"),
            ("DisableKeyRotation", "ok D S S S S ok"),
            ("GetKeyRotationStatus", "ok ok ok ok ok ok ok"),
            ("RotateKeyOnDemand", "ok D S S S S S"),
            ("ListKeyRotations", "ok ok ok ok ok ok ok"),
        ],
    )
    def test_states(self, rig: Rig, operation: str, row: str) -> None:
        """The table of key states, for a key that can rotate."""
        states = "Enabled Disabled PendingDeletion PendingImport Unavailable Creating Updating"
        for state, cell in zip(states.split(), row.split(), strict=True):
            arn = rig.create_key()
            set_state(rig, arn, state)
            if cell == "ok":
                rig.call(operation, {"KeyId": arn})
                continue
            with pytest.raises(KeyDisabledError if cell == "D" else KeyStateError):
                rig.call(operation, {"KeyId": arn})

    @pytest.mark.parametrize("operation", ROTATION_OPERATIONS)
    def test_names_and_callers(self, rig: Rig, operation: str) -> None:
        """No alias, no unknown key, no other account, nobody without a right."""
        arn = rig.create_key()
        rig.call("CreateAlias", {"AliasName": "alias/x", "TargetKeyId": arn})
        with pytest.raises(NotFoundError):
            rig.call(operation, {"KeyId": "alias/x"})
        with pytest.raises(NotFoundError):
            rig.call(operation, {"KeyId": "00000000-0000-4000-8000-000000000000"})
        with pytest.raises(ValidationError, match="keyId"):
            rig.call(operation, {})
        with pytest.raises(AccessDeniedError):
            rig.call(operation, {"KeyId": arn}, account="team-b")
        for nobody in (account(), pod()):
            with pytest.raises(AccessDeniedError):
                rig.call(operation, {"KeyId": arn}, by=nobody)


def test_a_failed_rotation_call_keeps_the_audit_facts(rig: Rig) -> None:
    """The refused call's audit record names the key."""
    arn = rig.create_key(KeySpec="HMAC_256", KeyUsage="GENERATE_VERIFY_MAC")
    with pytest.raises(UnsupportedOperationError):
        rig.call("RotateKeyOnDemand", {"KeyId": arn}, by=CONTROLLER)
    assert isinstance(rig.last, Call)
    assert rig.last.audit.key_arn == arn
