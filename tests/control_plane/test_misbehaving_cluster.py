"""The cluster misbehaves while requests are made; an audit afterwards decrypts every data key."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from kubernetes import client

from custom_objects import Objects, fresh_objects
from fault_stage import FaultStage, running_stage
from steady_load import Load

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


@pytest.mark.parametrize("component", ["kube-apiserver", "etcd"])
def test_killed_control_plane_loses_nothing(stage: FaultStage, objects: Objects, component: str) -> None:
    """It is killed twice, and away for seconds the second time: users are refused, no data key is lost."""
    with stage.controllers(), Load(stage.rig, objects) as load:
        load.wait_for(SOME)
        for seconds in (0.0, 5.0):
            stage.away(component, seconds)
            load.wait_for(SOME)
        assert load.refusals
        assert load.deleted
        assert load.audit() >= 3 * SOME
