"""Reads manifests: YAML or JSON, several documents, lists. Zone: no I/O; manifests are untrusted."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import yaml

from datakeys.kubectl.answers import Json, UserError

_LIST: Final = "List"
#: Where the pod template of each kind is; of a pod it is the pod itself.
_TEMPLATES: Final[dict[str, tuple[str, ...]]] = {
    "Pod": (),
    "Deployment": ("spec", "template"),
    "StatefulSet": ("spec", "template"),
    "DaemonSet": ("spec", "template"),
    "ReplicaSet": ("spec", "template"),
    "Job": ("spec", "template"),
    "CronJob": ("spec", "jobTemplate", "spec", "template"),
}


@dataclass(frozen=True, slots=True)
class Manifest:
    """One object with pods; ``place`` says where in the file it stands, for messages."""

    place: str
    body: Json

    @property
    def kind(self) -> str:
        """Return its kind."""
        return str(self.body["kind"])

    @property
    def name(self) -> str:
        """Return its name, or the prefix of it."""
        metadata = self.body["metadata"]
        return str(metadata.get("name") or metadata.get("generateName") or "")

    @property
    def is_pod(self) -> bool:
        """Return whether it is a pod itself."""
        return not _TEMPLATES[self.kind]


def parse_manifests(text: str) -> list[Manifest]:
    """Return the objects of a file that are pods or have a pod template; all others are left out.

    Raises:
        UserError: The text isn't YAML, or an object with pods lacks what makes it one.
    """
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.YAMLError as error:
        raise UserError(f"the manifest isn't YAML: {' '.join(str(error).split())}") from None
    return [
        _check(Manifest(f"document {number}", body))
        for number, document in enumerate(documents, 1)
        for body in _flatten(document)
        if body.get("kind") in _TEMPLATES
    ]


def get_template(manifest: Manifest, body: Json) -> Json:
    """Return the pod template within a body of the manifest's kind; a pod is its own."""
    for part in _TEMPLATES[manifest.kind]:
        body = body[part]
    return body


def _flatten(document: Any) -> Iterator[Json]:  # noqa: ANN401 - YAML
    if isinstance(document, dict) and document.get("kind") == _LIST:
        for item in document.get("items") or ():
            yield from _flatten(item)
    elif isinstance(document, dict):
        yield document
    elif document is not None:
        raise UserError("the manifest isn't one: a document must be a map with kind, metadata and spec")


def _check(manifest: Manifest) -> Manifest:
    """Check what everything after this relies on; the API server checks the rest."""
    try:
        template = get_template(manifest, manifest.body)
        containers = template["spec"]["containers"]
        names = [
            container["name"] for container in [*containers, *(template["spec"].get("initContainers") or ())]
        ]
        complete = bool(names) and isinstance(manifest.body["metadata"], dict)
    except (KeyError, TypeError):
        complete = False
    if not complete:
        raise UserError(
            f"{manifest.place} ({manifest.kind}) lacks metadata, a pod's spec or a container's name: "
            "see what `kubectl apply --dry-run=server` says"
        )
    return manifest
