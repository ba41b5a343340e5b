"""Replicas of the key service and of the webhook are killed while pods and requests need them."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client

from annotated_workloads import build_workload
from certificate_stage import Stage as Certificates
from certificate_stage import mount
from controller_rig import Process, Rig
from custom_objects import Objects, fresh_objects
from datakeys.contract.identity import ANNOTATION_WORKLOAD, LABEL_INJECT
from fault_stage import FaultStage, Kubelet, running_stage
from in_force import Asked, wait_asked
from ports import find_free_port
from relay import Relay
from sidecar_pods import SidecarPods
from steady_load import Load
from waiting import eventually
from webhook_rig import find_own_address

#: Requests before a fault, and after it.
SOME = 15
#: What a sidecar says that finds nobody.
UNREACHABLE = "KeyServiceUnreachable"


@pytest.fixture(scope="module")
def stage(
    control_plane: Path, api_client: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[FaultStage]:
    """Run two key services for all tests here; the webhook is asked."""
    folder = tmp_path_factory.mktemp("stage")
    with running_stage(control_plane, api_client, folder, with_webhook=True) as stage:
        yield stage


@pytest.fixture
def objects(stage: FaultStage) -> Iterator[Objects]:
    """Give a namespace of its own to a test."""
    with fresh_objects(stage.rig.api) as objects:
        yield objects


class Webhooks:
    """Two webhooks behind one address, to which the Service leads."""

    def __init__(self, rig: Rig, address: str, folder: Path) -> None:
        self.ports = [find_free_port() for _ in range(2)]
        self._rig, self._address, self._folder = rig, address, folder
        self.running: list[Process] = []

    def start(self) -> None:
        """Start both, and wait until the API server is answered."""
        self.running = [self._rig.start_webhook(self._address, port, self._folder) for port in self.ports]
        for process in self.running:
            assert eventually(lambda process=process: process.answers("/readyz") == 200)  # type: ignore[misc]
        wait_asked(self._rig.api, Asked.STAMPED)

    def kill(self) -> None:
        """Kill both."""
        for process in self.running:
            process.kill()


@contextmanager
def running_webhooks(stage: FaultStage, namespace: str, folder: Path) -> Iterator[Webhooks]:
    """Run both, and let the Service lead to them."""
    certificates = Certificates(stage.rig, namespace)
    mount(folder, certificates.read_secret(), 1)
    address = find_own_address(stage.rig.api.configuration.host)
    webhooks = Webhooks(stage.rig, address, folder)
    with Relay([(address, port) for port in webhooks.ports], address) as relay:
        certificates.lead_to(address, relay.port)
        webhooks.start()
        try:
            yield webhooks
        finally:
            webhooks.kill()


def build_unstamped(name: str) -> dict[str, Any]:
    """Return a Deployment as a user writes it: one annotation, and nothing that the webhook adds."""
    body = build_workload("Deployment", name)
    del body["metadata"]["labels"]
    template = body["spec"]["template"]
    template["metadata"] = {"labels": {"app": "test"}}
    template["spec"]["securityContext"] = {"runAsUser": 10001}
    return body


def build_asking_pod(name: str, request: str) -> Any:
    """Return a pod that asks for a data key."""
    metadata = {
        "name": name,
        "labels": {LABEL_INJECT: "true"},
        "annotations": {"datakeys.dev/requests": request},
    }
    containers = [{"name": "app", "image": "app"}]
    spec = {"serviceAccountName": "app", "securityContext": {"runAsUser": 10001}, "containers": containers}
    return {"metadata": metadata, "spec": spec}


def test_all_webhooks_killed_lets_nothing_in_without_its_key(
    stage: FaultStage, objects: Objects, tmp_path: Path
) -> None:
    """Both are killed under load: who asks is refused until they are back; nothing is lost."""
    core = client.CoreV1Api(objects.api)
    with (
        running_webhooks(stage, objects.namespace, tmp_path / "tls") as webhooks,
        stage.controllers(),
        Load(stage.rig, objects, build_unstamped) as load,
    ):
        load.wait_for(SOME)
        webhooks.kill()
        with pytest.raises(client.ApiException, match="failed calling webhook"):
            core.create_namespaced_pod(objects.namespace, build_asking_pod("early", load.names[1]))
        assert eventually(lambda: load.refusals["500"] >= 3)
        webhooks.start()
        load.wait_for(SOME)
        made: Any = core.create_namespaced_pod(objects.namespace, build_asking_pod("late", load.names[1]))
        assert [one.name for one in made.spec.init_containers] == ["datakeys-sidecar"]
        assert load.audit() >= 2 * SOME
        deployments: Any = client.AppsV1Api(objects.api).list_namespaced_deployment(objects.namespace)
        assert len(deployments.items) >= 2 * SOME // 5
        for one in deployments.items:
            stamp = one.spec.template.metadata.annotations[ANNOTATION_WORKLOAD]
            assert stamp == f"Deployment/{one.metadata.name}"
        pods: Any = core.list_namespaced_pod(objects.namespace, label_selector=f"{LABEL_INJECT}=true")
        assert [pod.metadata.name for pod in pods.items] == ["late"]


def test_key_services_killed_in_turn_fail_no_sidecar(stage: FaultStage, objects: Objects) -> None:
    """Real sidecars start all the time while replicas are killed, both at once too: each gets its data key.

    Half of the connections lead to a dead replica: nothing takes it out, as a Service would after a while.
    """
    stage.rig.leave_webhook_out()
    with stage.keep_replicas() as replicas, stage.controllers(), Load(stage.rig, objects) as load:
        load.wait_for(SOME)
        request = load.names[1]
        objects.wait_ready(request)
        with SidecarPods(stage.rig, objects, request) as pods:
            for victims in ([0], [1], [0], [1], [0, 1]):
                kill(replicas, victims)
                pods.wait_delivered(5)
            for _ in range(20):
                if UNREACHABLE in pods.retries:
                    break
                kill(replicas, [0, 1])  # so far no sidecar happened to need a dead one
                pods.wait_delivered(5)
            pods.stop()
        assert pods.failures == []
        assert len(set(pods.delivered)) == 1
        assert len(pods.delivered[0]) == 32
        assert UNREACHABLE in pods.retries
        assert stage.to_keyservices.refused
        load.wait_for(SOME)
        assert load.audit() >= 2 * SOME


def kill(kubelet: Kubelet, numbers: list[int]) -> None:
    """Kill some; return when they have been started again and are ready."""
    killed = [kubelet.running[number] for number in numbers]
    for process in killed:
        process.kill()
    assert eventually(lambda: all(process in kubelet.ended for process in killed))
