"""The clock of one key service of two jumps: it fails closed, and nothing is destroyed before its time."""

import dataclasses
import json
import time
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import pytest
from kubernetes import client

from controller_rig import Process
from controller_wire import RefusedError, Wire
from custom_objects import REQUESTS, Objects, fresh_objects
from fault_stage import FaultStage, running_stage
from jumping_clock import JumpingClock
from live_files import read_whole_lines
from pod_caller import decrypt, start_pod
from sidecar_pods import SidecarPods
from steady_load import Load
from waiting import eventually

HOUR: Final = 3600
DAY: Final = 86_400
#: Longer than a test takes on a slow machine, and shorter than a jump.
POD_TOKEN_SECONDS: Final = 1800
SOME: Final = 15


@dataclasses.dataclass
class Jumper:
    """The stage, whose second key service has a clock that jumps."""

    stage: FaultStage
    clock: JumpingClock
    process: Process

    def wire(self, token: str = "", namespace: str = "") -> Wire:
        """Return calls of that very replica."""
        rig = dataclasses.replace(self.stage.rig, keyservice_port=self.stage.ports[1])
        return Wire(rig, namespace, token=token)

    def audit_time(self) -> float:
        """Return when the last audit record was written, by the replica's own clock."""
        records = [json.loads(line) for line in read_whole_lines(self.process.log)]
        text = [record["eventTime"] for record in records if "eventTime" in record][-1]
        return datetime.fromisoformat(text).timestamp()

    def logs(self, text: str) -> bool:
        """Return whether the replica has logged a text."""
        return text in self.process.log.read_text()


@pytest.fixture(scope="module")
def jumper(
    control_plane: Path, api_client: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Jumper]:
    """Run two key services for all tests here."""
    folder = tmp_path_factory.mktemp("stage")
    clock = JumpingClock(folder / "clock")
    with running_stage(control_plane, api_client, folder) as stage:
        stage.replicas[1].kill()
        yield Jumper(stage, clock, stage.start_replica(1, **clock.environment))


@pytest.fixture
def objects(jumper: Jumper) -> Iterator[Objects]:
    """Give a namespace of its own to a test; the clock is right after it."""
    with fresh_objects(jumper.stage.rig.api) as objects:
        yield objects
        jumper.clock.jump(0)


@pytest.mark.parametrize("jump", [HOUR, -HOUR], ids=["ahead", "behind"])
def test_a_jump_fails_closed_and_heals(jumper: Jumper, objects: Objects, jump: int) -> None:
    """The replica refuses tokens that aren't valid by its clock; sidecars get their key from the other."""
    stage, namespace = jumper.stage, objects.namespace
    with stage.controllers(), Load(stage.rig, objects) as load:
        load.wait_for(SOME)
        name = load.names[1]
        objects.wait_ready(name)
        blob = objects.get(REQUESTS, name)["status"]["ciphertextBlob"]
        token = start_pod(stage.rig, namespace, seconds=POD_TOKEN_SECONDS).token

        def answer() -> str:
            try:
                decrypt(jumper.wire(token), blob, namespace, name)
            except RefusedError as error:
                return error.code
            return ""

        assert answer() == ""
        with SidecarPods(stage.rig, objects, name, POD_TOKEN_SECONDS) as pods:
            pods.wait_delivered(2)
            jumper.clock.jump(jump)
            assert eventually(lambda: answer() == "UnrecognizedClientException")
            assert abs(jumper.audit_time() - time.time() - jump) < 120
            made = len(load.names)
            load.wait_for(SOME)
            # The controller isn't held by the replica that refuses it.
            objects.wait_ready(*load.names[made : made + SOME])
            pods.wait_delivered(3)
            assert answer() == "UnrecognizedClientException"
            jumper.clock.jump(0)
            assert eventually(lambda: answer() == "")
            pods.wait_delivered(2)
            pods.stop()
        assert pods.failures == []
        assert len(set(pods.delivered)) == 1
        # Nobody was gone, but a sidecar waits for an answer some seconds only: too few on a slow machine.
        assert set(pods.retries) <= {"UnrecognizedClientException", "KeyServiceUnreachable"}
        load.wait_for(SOME)
        assert load.audit() >= 3 * SOME


def test_a_jump_destroys_no_key_before_its_time(jumper: Jumper, objects: Objects) -> None:
    """By a clock eight days ahead a key is due; the API server's clock says no, and it can be taken back."""
    account = objects.namespace
    wire = jumper.wire(namespace=account)
    key_id = wire.call("CreateKey")["KeyMetadata"]["KeyId"]
    wire.call("ScheduleKeyDeletion", KeyId=key_id, PendingWindowInDays=7)
    jumper.clock.jump(8 * DAY)
    # A changed record wakes the task that destroys keys.
    right = dataclasses.replace(jumper.stage.rig, keyservice_port=jumper.stage.ports[0])
    Wire(right, account).call("CreateKey")
    told = "this clock is ahead of the cluster's: scheduled changes of keys wait"
    assert eventually(lambda: jumper.logs(told))
    core = client.CoreV1Api(objects.api)
    found: Any = core.read_namespaced_secret(f"kmskey-{key_id}", jumper.stage.rig.installation.namespace)
    assert found.metadata.deletion_timestamp is None
    jumper.clock.jump(0)

    def cancelled() -> bool:
        try:
            wire.call("CancelKeyDeletion", KeyId=key_id)
        except RefusedError:
            return False
        return True

    assert eventually(cancelled)
    wire.call("EnableKey", KeyId=key_id)
    assert wire.generate(key_id, account)
    assert not jumper.logs("key destroyed")
