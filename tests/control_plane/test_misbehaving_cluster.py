"""The cluster misbehaves while requests are made; an audit afterwards decrypts every data key."""

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client
from prometheus_client.parser import text_string_to_metric_families

from controller_rig import Process
from custom_objects import REQUESTS, Objects, fresh_objects
from fault_stage import FaultStage, Kubelet, running_stage
from live_files import read_whole_lines
from meddler import Meddler
from steady_load import Load
from waiting import eventually

#: Requests before a fault, and after it.
SOME = 15


@pytest.fixture(scope="module")
def stage(
    control_plane: Path, api_client: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FaultStage]:
    """Run two key services for all tests here."""
    with running_stage(control_plane, api_client, tmp_path_factory.mktemp("stage")) as stage:
        yield stage


@pytest.fixture
def objects(stage: FaultStage) -> Iterator[Objects]:
    """Give a namespace of its own to a test."""
    with fresh_objects(stage.rig.api) as objects:
        yield objects


def count_conflicts(stage: FaultStage) -> int:
    """Return how often the API server has answered 409 to a patch of a request's status."""
    request: Any = stage.rig.api.param_serialize("GET", "/metrics", auth_settings=["BearerToken"])
    text = stage.rig.api.call_api(*request).read().decode()  # type: ignore[no-untyped-call]
    wanted = {"code": "409", "resource": REQUESTS, "subresource": "status", "verb": "PATCH"}
    samples = (sample for family in text_string_to_metric_families(text) for sample in family.samples)
    return int(
        sum(
            sample.value
            for sample in samples
            if sample.name == "apiserver_request_total" and wanted.items() <= sample.labels.items()
        )
    )


def expired_watches(controller: Process) -> set[str]:
    """Return the resources whose watch has expired."""
    expired = [line for line in read_whole_lines(controller.log) if "watch expired" in line]
    return {json.loads(line)["resource"] for line in expired}


def leads_beside(kubelet: Kubelet, frozen: Process) -> bool:
    """Return whether another process than this leads."""
    return any(process.is_leader() for process in kubelet.running if process is not frozen)


@pytest.mark.parametrize("component", ["kube-apiserver", "etcd"])
def test_killed_control_plane_loses_nothing(stage: FaultStage, objects: Objects, component: str) -> None:
    """It is killed and away for seconds: users are refused, leaders end, no data key is lost."""
    with stage.controllers(), Load(stage.rig, objects) as load:
        load.wait_for(SOME)
        stage.away(component, seconds=6.0)
        load.wait_for(SOME)
        assert load.refusals
        load.wait_deleted()
        assert load.audit() >= 2 * SOME


def test_cut_connections_lose_nothing(stage: FaultStage, objects: Objects) -> None:
    """All connections of all processes to the API server are reset, four times a second."""
    with stage.controllers(), Load(stage.rig, objects) as load:
        load.wait_for(SOME)
        cut, wanted = 0, len(load.names) + 3 * SOME

        def is_enough() -> bool:
            nonlocal cut
            cut += stage.to_cluster.cut()
            time.sleep(0.2)
            return len(load.names) >= wanted and cut > 50

        assert eventually(is_enough), (cut, len(load.names), load.refusals)
        load.wait_for(SOME)
        assert load.audit() >= 5 * SOME


def test_expired_watches_lose_nothing(stage: FaultStage, objects: Objects) -> None:
    """A controller sleeps while etcd forgets what it has missed: it is told 410 Gone, and lists again."""
    with stage.controllers(1, DATAKEYS_LEADER_ELECTION="false") as kubelet, Load(stage.rig, objects) as load:
        [controller] = kubelet.running
        load.wait_for(SOME)
        controller.pause()
        # Else the kernel would keep for it what happens meanwhile.
        assert stage.to_cluster.cut()
        load.wait_for(SOME)
        assert stage.compact() > 0
        # A new API server has no memory of former versions, and etcd neither now.
        stage.away("kube-apiserver")
        controller.resume()
        load.wait_for(SOME)
        assert eventually(lambda: expired_watches(controller) >= {REQUESTS, "secrets"})
        assert load.audit() >= 3 * SOME
        assert not kubelet.ended


def test_another_writer_loses_nothing(stage: FaultStage, objects: Objects) -> None:
    """Somebody labels, annotates and takes away conditions of every request and Secret, all the time."""
    with stage.controllers(), Load(stage.rig, objects) as load, Meddler(objects) as meddler:
        before = count_conflicts(stage)
        load.wait_for(4 * SOME)
        assert eventually(lambda: meddler.patches > 10 * SOME)
        assert eventually(lambda: count_conflicts(stage) - before >= SOME // 3)
        meddler.stop()
        assert load.audit() >= 4 * SOME


def test_frozen_leader_under_load_loses_nothing(stage: FaultStage, objects: Objects) -> None:
    """A leader that is frozen amid its work and wakes past its Lease ends; the other one has taken over."""
    with stage.controllers() as kubelet, Load(stage.rig, objects) as load:
        frozen = kubelet.wait_leader()
        load.wait_for(SOME)
        frozen.pause()
        assert eventually(lambda: leads_beside(kubelet, frozen))
        load.wait_for(SOME)
        frozen.resume()
        assert eventually(lambda: frozen in kubelet.ended)
        assert frozen.popen.returncode == 1
        assert load.audit() >= 2 * SOME


def test_two_leaders_under_load_lose_nothing(stage: FaultStage, objects: Objects) -> None:
    """Two controllers without election work on the same requests, one of them killed again and again."""
    with (
        stage.controllers(DATAKEYS_LEADER_ELECTION="false") as kubelet,
        Load(stage.rig, objects) as load,
    ):
        for number in range(3):
            load.wait_for(SOME)
            kubelet.running[number % 2].kill()
        load.wait_for(SOME)
        assert eventually(lambda: bool(kubelet.ended))
        assert load.audit() >= 4 * SOME
