"""Short calls for this project's objects on a real API server.

Zone: tests.
"""

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

from kubernetes import client
from kubernetes.client.exceptions import ApiException

from annotated_workloads import unless_gone
from datakeys.contract.identity import GROUP, VERSION
from waiting import WAIT_SECONDS, eventually
from workloads import build_key, build_request

REQUESTS: Final = "datakeyrequests"
KEYS: Final = "kmskeys"
ALIASES: Final = "kmsaliases"
GRANTS: Final = "kmsgrants"
#: In seconds: until an event has its effect, on a slow machine too; who misses it looks again after a minute.
SOON: Final = 45.0
Json = dict[str, Any]


@dataclass(frozen=True)
class Objects:
    """The objects of one namespace."""

    api: client.ApiClient
    namespace: str

    def create(self, plural: str, body: Json) -> Json:
        """Create an object."""
        return dict(
            self._custom.create_namespaced_custom_object(GROUP, VERSION, self.namespace, plural, body)
        )

    def get(self, plural: str, name: str) -> Json:
        """Return an object."""
        return dict(self._custom.get_namespaced_custom_object(GROUP, VERSION, self.namespace, plural, name))

    def list(self, plural: str, selector: str = "") -> Sequence[Json]:
        """Return the objects of a kind, or those with a label."""
        answer = self._custom.list_namespaced_custom_object(
            GROUP, VERSION, self.namespace, plural, label_selector=selector
        )
        return tuple(answer["items"])

    def exists(self, plural: str, name: str) -> bool:
        """Return whether an object exists."""
        try:
            self.get(plural, name)
        except ApiException as error:
            if error.status != 404:
                raise
            return False
        return True

    def patch(self, plural: str, name: str, body: Json) -> None:
        """Merge a patch into an object."""
        self._custom.patch_namespaced_custom_object(
            GROUP, VERSION, self.namespace, plural, name, body, _content_type="application/merge-patch+json"
        )

    def delete(self, plural: str, name: str) -> None:
        """Delete an object."""
        self._custom.delete_namespaced_custom_object(GROUP, VERSION, self.namespace, plural, name)

    def create_key(self, name: str = "main", **spec: Any) -> None:
        """Create a KmsKey."""
        self.create(KEYS, build_key(self.namespace, name, **spec))

    def create_request(self, name: str, **spec: Any) -> None:
        """Create a DataKeyRequest."""
        self.create(REQUESTS, build_request(self.namespace, name, **spec))

    def create_manifest(self, plural: str, kind: str, name: str, spec: Json) -> None:
        """Create an object of any kind of the group."""
        metadata = {"name": name, "namespace": self.namespace}
        body = {"apiVersion": f"{GROUP}/{VERSION}", "kind": kind, "metadata": metadata, "spec": spec}
        self.create(plural, body)

    def condition(self, plural: str, name: str, type_: str = "Ready") -> tuple[str, str, str]:
        """Return status, reason and message of a condition, or empty strings."""
        for item in (self.get(plural, name).get("status") or {}).get("conditions") or []:
            if item["type"] == type_:
                return item["status"], item["reason"], item["message"]
        return "", "", ""

    def wait_ready(self, *names: str, plural: str = REQUESTS, seconds: float = WAIT_SECONDS) -> None:
        """Wait until objects are Ready."""
        for name in names:
            self.wait_condition(plural, name, "True", seconds=seconds)

    def wait_condition(
        self,
        plural: str,
        name: str,
        status: str,
        reason: str = "",
        *,
        type_: str = "Ready",
        seconds: float = WAIT_SECONDS,
    ) -> str:
        """Wait until a condition has a status and a reason; return its message."""
        found = ("", "", "")

        def reached() -> bool:
            nonlocal found
            found = self.condition(plural, name, type_)
            return found[0] == status and reason in ("", found[1])

        assert eventually(reached, seconds), (name, self.get(plural, name).get("status"))
        return found[2]

    def secret(self, name: str) -> Any:
        """Return a Secret, or None."""
        try:
            return client.CoreV1Api(self.api).read_namespaced_secret(name, self.namespace)
        except ApiException as error:
            if error.status != 404:
                raise
            return None

    def delete_secret(self, name: str) -> None:
        """Delete a Secret."""
        client.CoreV1Api(self.api).delete_namespaced_secret(name, self.namespace)

    def create_secret(self, name: str, **data: str) -> None:
        """Create a Secret that isn't the controller's."""
        body: Any = {"metadata": {"name": name}, "stringData": data}
        client.CoreV1Api(self.api).create_namespaced_secret(self.namespace, body)

    def versions(self) -> dict[str, str]:
        """Return the resourceVersion of every object that the controller may write to."""
        found: dict[str, str] = {}
        for plural in (REQUESTS, KEYS, ALIASES, GRANTS):
            answer = self._custom.list_namespaced_custom_object(GROUP, VERSION, self.namespace, plural)
            for item in answer["items"]:
                found[f"{plural}/{item['metadata']['name']}"] = item["metadata"]["resourceVersion"]
        core, rbac = client.CoreV1Api(self.api), client.RbacAuthorizationV1Api(self.api)
        lists: Mapping[str, Callable[[str], Any]] = {
            "secrets": core.list_namespaced_secret,
            "configmaps": core.list_namespaced_config_map,
            "rolebindings": rbac.list_namespaced_role_binding,
        }
        for kind, list_all in lists.items():
            for item in list_all(self.namespace).items:
                found[f"{kind}/{item.metadata.name}"] = item.metadata.resource_version
        return found

    def event_reasons(self, name: str) -> Sequence[str]:
        """Return the reasons of the Events about an object, oldest first."""
        return [event["reason"] for event in self._events(name)]

    def event_notes(self, name: str) -> Sequence[str]:
        """Return the texts of the Events about an object, oldest first."""
        return [event["note"] for event in self._events(name)]

    def remove_all(self) -> None:
        """Remove all objects of the group, finalizers or not; others may do the same meanwhile."""
        for plural in (REQUESTS, KEYS, ALIASES, GRANTS):
            for item in self.list(plural):
                name = item["metadata"]["name"]
                with unless_gone():
                    if item["metadata"].get("finalizers"):
                        self.patch(plural, name, {"metadata": {"finalizers": None}})
                    self.delete(plural, name)

    def _events(self, name: str) -> Sequence[Json]:
        # The typed client can't read the Events of Kubernetes' own controllers, which have no eventTime.
        listed = self._custom.list_namespaced_custom_object("events.k8s.io", "v1", self.namespace, "events")
        mine = [event for event in listed["items"] if event["regarding"]["name"] == name]
        return sorted(
            mine, key=lambda event: event.get("eventTime") or event["metadata"]["creationTimestamp"]
        )

    @property
    def _custom(self) -> Any:
        return client.CustomObjectsApi(self.api)


@contextmanager
def fresh_objects(api: client.ApiClient) -> Iterator[Objects]:
    """Make a namespace, and empty it afterwards; without a namespace controller it can't go."""
    name = f"shop-{uuid.uuid4().hex[:8]}"
    body: Any = {"metadata": {"name": name}}
    client.CoreV1Api(api).create_namespace(body)
    objects = Objects(api, name)
    try:
        yield objects
    finally:
        objects.remove_all()
