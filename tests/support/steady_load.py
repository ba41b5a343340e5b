"""Requests at a steady pace while something fails, and the audit afterwards: no data key is lost or changed.

Zone: tests.
"""

import json
import threading
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, Final, Self

import urllib3.exceptions
from kubernetes import client
from kubernetes.client.exceptions import ApiException

from annotated_workloads import WorkloadClient, build_workload
from controller_rig import Rig
from custom_objects import KEYS, REQUESTS, Json, Objects
from datakeys.contract.identity import GROUP, SECRET_TYPE, VERSION
from datakeys.contract.workload import Workload, build_request_name
from pod_caller import decrypt, start_pod
from waiting import WAIT_SECONDS, eventually
from workloads import build_request

PAUSE_SECONDS: Final = 0.1
CALL_SECONDS: Final = 5.0
#: One of so many requests is made by annotating a workload; so often, the Secret of a former one is deleted.
_ANNOTATED_EVERY: Final = 5
_DELETED_EVERY: Final = 4
#: Errors of a call that a user makes again.
UNREACHABLE: Final = (ApiException, urllib3.exceptions.HTTPError, OSError)


def build_stamped(name: str) -> Json:
    """Return a Deployment that asks for a data key, as the webhook leaves it."""
    return build_workload("Deployment", name)


@dataclass
class Load:
    """Ten requests per second in one namespace, from `__enter__` until `audit`.

    Attributes:
        build_annotated: Makes a Deployment from its name.
        names: Requests that the API server has taken, those for workloads too.
        refusals: Calls that failed and were made again, by the kind of error.
        deleted: How many Secrets were deleted.
    """

    rig: Rig
    objects: Objects
    build_annotated: Callable[[str], Json] = build_stamped
    names: list[str] = field(default_factory=list)
    refusals: Counter[str] = field(default_factory=Counter)
    deleted: int = 0
    _seen: dict[str, set[str]] = field(default_factory=lambda: defaultdict(set))
    _stop: threading.Event = field(default_factory=threading.Event)
    _ended: threading.Event = field(default_factory=threading.Event)
    _threads: list[threading.Thread] = field(default_factory=list)

    def __enter__(self) -> Self:
        """Make the key, and begin."""
        self.objects.create_key()
        self.objects.create_manifest("kmsaliases", "KmsAlias", "main", {"targetKeyRef": {"name": "main"}})
        self.objects.wait_ready("main", plural=KEYS)
        self.objects.wait_ready("main", plural="kmsaliases")
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._make, self._observe)]
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """End both threads."""
        self._stop.set()
        self._ended.set()
        for thread in self._threads:
            thread.join()
        WorkloadClient(self.objects.api, self.objects.namespace).delete_all()

    def wait_for(self, more: int) -> None:
        """Wait until so many more requests were taken."""
        wanted = len(self.names) + more
        assert eventually(lambda: len(self.names) >= wanted), (wanted, len(self.names), self.refusals)

    def wait_deleted(self) -> None:
        """Wait until a Secret was deleted: on a slow machine there is none yet when its turn comes."""
        assert eventually(lambda: self.deleted > 0), self.refusals

    def audit(self) -> int:
        """End the load, wait until all is done, and decrypt everything; return the number of data keys.

        Every request is Ready and has one Secret, which holds the ciphertext that the status has and had
        from the beginning; every data key decrypts, and no two are the same.
        """
        self._stop.set()
        self._threads[0].join()
        assert eventually(self._all_ready, 2 * WAIT_SECONDS), self._unfinished()
        blobs = {name: str(status["ciphertextBlob"]) for name, status in self._statuses().items()}
        assert set(blobs) == set(self.names)
        assert eventually(lambda: set(self._seen) == set(blobs))
        self._ended.set()
        self._threads[1].join()
        assert self._seen == {name: {blob} for name, blob in blobs.items()}
        assert eventually(lambda: self._secrets() == blobs), self._find_odd_secrets(blobs)
        assert len(set(blobs.values())) == len(blobs)
        pod, namespace = start_pod(self.rig, self.objects.namespace), self.objects.namespace
        plaintexts = [decrypt(pod, blob, namespace, name) for name, blob in blobs.items()]
        assert {len(plaintext) for plaintext in plaintexts} == {32}
        assert len(set(plaintexts)) == len(plaintexts)
        return len(plaintexts)

    def _make(self) -> None:
        number = 0
        while not self._stop.wait(PAUSE_SECONDS):
            if number % _ANNOTATED_EVERY:
                name, create = f"r{number:04d}", self._create_request
            else:
                name = build_request_name(Workload("Deployment", f"w{number:04d}"))
                create = self._create_workload
            if self._insist(lambda create=create, number=number: create(number)):  # type: ignore[misc]
                self.names.append(name)
            number += 1
            if number % _DELETED_EVERY == 0:
                self._delete_secret(self.names[len(self.names) // 2])

    def _insist(self, call: Callable[[], object]) -> bool:
        """Make a call again until the API server takes it; False: the load was ended before."""
        while True:
            try:
                call()
            except UNREACHABLE as error:
                if isinstance(error, ApiException) and error.status == 409:
                    return True  # a former attempt was taken, only its answer was lost
                self.refusals[describe(error)] += 1
            else:
                return True
            if self._stop.wait(0.2):
                # Whether the last attempt was taken nobody knows.
                return self._insist_at_the_end(call)

    def _insist_at_the_end(self, call: Callable[[], object]) -> bool:
        def taken() -> bool:
            try:
                call()
            except UNREACHABLE as error:
                return isinstance(error, ApiException) and error.status == 409
            return True

        return eventually(taken)

    def _create_request(self, number: int) -> None:
        body = build_request(self.objects.namespace, f"r{number:04d}")
        client.CustomObjectsApi(self.objects.api).create_namespaced_custom_object(
            GROUP, VERSION, self.objects.namespace, REQUESTS, body, _request_timeout=CALL_SECONDS
        )

    def _create_workload(self, number: int) -> None:
        workloads = WorkloadClient(self.objects.api, self.objects.namespace)
        workloads.create(self.build_annotated(f"w{number:04d}"), _request_timeout=CALL_SECONDS)

    def _delete_secret(self, name: str) -> None:
        try:
            client.CoreV1Api(self.objects.api).delete_namespaced_secret(
                name, self.objects.namespace, _request_timeout=CALL_SECONDS
            )
        except UNREACHABLE as error:
            self.refusals[describe(error)] += 1
        else:
            self.deleted += 1

    def _observe(self) -> None:
        """Follow the statuses until the end, whatever happens to the connection."""
        version = ""
        while not self._ended.is_set():
            try:
                version = self._follow(version or self._list())
            except (*UNREACHABLE, ValueError):
                version = ""
                self._ended.wait(0.2)

    def _list(self) -> str:
        answer: Any = client.CustomObjectsApi(self.objects.api).list_namespaced_custom_object(
            GROUP, VERSION, self.objects.namespace, REQUESTS, _request_timeout=CALL_SECONDS
        )
        for item in answer["items"]:
            self._note(item)
        return str(answer["metadata"]["resourceVersion"])

    def _follow(self, version: str) -> str:
        """Note the changes of some seconds; return where to go on.

        Raises:
            ValueError: The version is too old.
        """
        answer: Any = client.CustomObjectsApi(self.objects.api).list_namespaced_custom_object(
            GROUP,
            VERSION,
            self.objects.namespace,
            REQUESTS,
            watch=True,
            resource_version=version,
            timeout_seconds=2,
            _request_timeout=CALL_SECONDS,
            _preload_content=False,
        )
        with closing(answer):
            for line in answer:
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ValueError(event["object"].get("message"))
                self._note(event["object"])
                version = str(event["object"]["metadata"]["resourceVersion"])
        return version

    def _note(self, item: Json) -> None:
        blob = (item.get("status") or {}).get("ciphertextBlob")
        if blob is not None:
            self._seen[item["metadata"]["name"]].add(blob)

    def _statuses(self) -> dict[str, Json]:
        return {it["metadata"]["name"]: it.get("status") or {} for it in self.objects.list(REQUESTS)}

    def _unfinished(self) -> Sequence[object]:
        statuses = self._statuses()
        missing = sorted(set(self.names) - set(statuses))
        return [missing, *(item for item in statuses.items() if not _is_ready(item[1]))][:5]

    def _all_ready(self) -> bool:
        try:
            statuses = self._statuses()
        except UNREACHABLE:
            return False
        return set(self.names) <= set(statuses) and all(map(_is_ready, statuses.values()))

    def _secrets(self) -> dict[str, str]:
        """Return the ciphertexts of all encrypted data keys in the namespace, by their Secrets' names."""
        listed: Any = client.CoreV1Api(self.objects.api).list_namespaced_secret(self.objects.namespace)
        return {it.metadata.name: it.data["ciphertextBlob"] for it in listed.items if it.type == SECRET_TYPE}

    def _find_odd_secrets(self, blobs: Mapping[str, str]) -> dict[str, tuple[str, str]]:
        """Return the ends of a status' and its Secret's ciphertext where they differ."""
        secrets = self._secrets()
        pairs = {name: (blobs.get(name, ""), secrets.get(name, "")) for name in blobs.keys() | secrets.keys()}
        return {name: (one[-16:], other[-16:]) for name, (one, other) in pairs.items() if one != other}


def describe(error: Exception) -> str:
    """Return the kind of an error: an HTTP status or a type's name."""
    return str(error.status) if isinstance(error, ApiException) else type(error).__name__


def _is_ready(status: Json) -> bool:
    conditions = status.get("conditions") or ()
    return any((item["type"], item["status"]) == ("Ready", "True") for item in conditions)
