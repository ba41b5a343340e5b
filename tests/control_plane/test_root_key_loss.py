"""A key service without the root key of its records: it says so, ends, and makes nothing.

The real process, against Secrets of a real API server.
"""

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from kubernetes import client

from controller_rig import Process, Rig, running_rig
from controller_wire import Wire
from custom_objects import Json
from live_files import read_whole_lines
from waiting import eventually

ROOT_KEY: Final = "datakeys-root-key"
ACCOUNT: Final = "shop"
KEYS: Final = 12
#: Nobody is routed to the process, so it needn't wait when it is told to stop.
AT_ONCE: Final = {"DATAKEYS_DRAIN_DELAY_SECONDS": "0"}


class Stopped:
    """A key service that has made some keys and was stopped; its root key Secret can be taken away."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self._core = client.CoreV1Api(rig.api)
        self._namespace = rig.installation.namespace
        process = rig.start_keyservice(**AT_ONCE)
        wire = Wire(rig, ACCOUNT)
        self.key_ids = [wire.call("CreateKey")["KeyMetadata"]["KeyId"] for _ in range(KEYS)]
        assert process.stop() == 0
        self.root_key: Json = self._read()
        self.records = self.versions()

    def versions(self) -> dict[str, str]:
        """Return the resourceVersions of all Secrets but the root key."""
        found: Any = self._core.list_namespaced_secret(self._namespace)
        names = {item.metadata.name: item.metadata.resource_version for item in found.items}
        names.pop(ROOT_KEY, None)
        return names

    def has_root_key(self) -> bool:
        """Return whether there is a root key Secret."""
        selector = f"metadata.name={ROOT_KEY}"
        return bool(self._core.list_namespaced_secret(self._namespace, field_selector=selector).items)

    def remove(self) -> None:
        """Remove the root key Secret."""
        self._core.delete_namespaced_secret(ROOT_KEY, self._namespace)

    def put(self, key: bytes | None = None) -> None:
        """Create the root key Secret, with the right key or another."""
        data = self.root_key["data"] if key is None else {"key": base64.b64encode(key).decode()}
        body: Any = {"metadata": {"name": ROOT_KEY}, "type": self.root_key["type"], "immutable": True}
        body["data"] = data
        self._core.create_namespaced_secret(self._namespace, body)

    def cause_of_refusal(self) -> str:
        """Start the service, which must refuse; return why, having checked that it changed nothing."""
        had_root_key = self.has_root_key()
        process = self.rig.launch_keyservice(**AT_ONCE)
        assert eventually(lambda: process.popen.poll() is not None), process.log.read_text()
        assert process.popen.returncode == 1
        lines = [json.loads(line) for line in read_whole_lines(process.log)]
        assert len(lines) < KEYS, lines
        assert all("error_type" not in line for line in lines), lines
        (refusal,) = [line for line in lines if line["level"] == "CRITICAL"]
        assert refusal["event"] == "refusing to start"
        assert self.root_key["data"]["key"] not in process.log.read_text()
        assert (self.versions(), self.has_root_key()) == (self.records, had_root_key)
        return str(refusal["cause"])

    def start(self) -> Process:
        """Start the service with the right root key again: every key must be there."""
        process = self.rig.start_keyservice(**AT_ONCE)
        self.check_keys()
        return process

    def check_keys(self) -> None:
        """Use every key: what it needs is opened with the root key."""
        wire = Wire(self.rig, ACCOUNT)
        for key_id in self.key_ids:
            assert wire.generate(key_id, ACCOUNT)

    def _read(self) -> Json:
        answer: Any = self._core.read_namespaced_secret(ROOT_KEY, self._namespace)
        return {"type": answer.type, "data": dict(answer.data)}


@pytest.fixture(scope="module")
def stopped(
    control_plane: Path, api_client: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stopped]:
    """Make some keys, and stop the key service."""
    with running_rig(control_plane, api_client, tmp_path_factory.mktemp("rig")) as rig:
        yield Stopped(rig)


def test_a_lost_root_key_is_told_and_not_made_anew(stopped: Stopped) -> None:
    """The cause counts the records and names the Secret and the way out, which then works."""
    stopped.remove()
    cause = stopped.cause_of_refusal()
    assert cause.startswith(f"{KEYS} sealed records exist, but Secret {ROOT_KEY} does not: restore it")
    stopped.put()
    assert stopped.start().stop() == 0


@pytest.mark.parametrize(
    ("key", "text"),
    [
        (os.urandom(32), f"none of the {KEYS} stored records is authentic under Secret {ROOT_KEY}"),
        (b"short", f"Secret {ROOT_KEY} does not hold a root key of 32 bytes"),
        (b"", f"Secret {ROOT_KEY} does not hold a root key of 32 bytes"),
    ],
    ids=["another", "short", "empty"],
)
def test_a_wrong_root_key_is_told_in_one_line(stopped: Stopped, key: bytes, text: str) -> None:
    """No record is taken for lost or damaged, and none is changed; the right Secret is all it takes."""
    stopped.remove()
    stopped.put(key)
    assert text in stopped.cause_of_refusal()
    stopped.remove()
    stopped.put()
    assert stopped.start().stop() == 0


def test_a_running_replica_outlives_the_secret(stopped: Stopped) -> None:
    """It has read the root key at its start, serves on, and doesn't make another one."""
    process = stopped.start()
    stopped.remove()
    stopped.check_keys()
    assert process.answers("/readyz") == 200
    assert not stopped.has_root_key()
    assert process.stop() == 0
    stopped.put()
    assert stopped.start().stop() == 0
