"""Reads a manifest, asks the cluster for what the webhook would ask for, and shows the diff."""

import argparse
import sys
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

from datakeys.kubectl import paths
from datakeys.kubectl.answers import ClusterError, Gap, Json, UserError
from datakeys.kubectl.cluster import Cluster, fetch_all
from datakeys.kubectl.explain.facts import WEBHOOK
from datakeys.kubectl.explain.workload_checks import find_template
from datakeys.kubectl.inject.diff import build_diff, show_diff
from datakeys.kubectl.inject.injector import FetchFacts, Injected, build_settings, inject, read_facts
from datakeys.kubectl.inject.manifests import Manifest, parse_manifests
from datakeys.kubectl.output import Colour, Console, clean
from datakeys.kubectl.spelling import find_misspelt

_STDIN: Final = "-"
_DEFAULT_NAMESPACE: Final = "default"


def run_inject(arguments: argparse.Namespace, cluster: Cluster, console: Console) -> int:
    """Show what the webhook would do; the status is 1 if it would refuse anything.

    Raises:
        UserError: The manifest can't be read.
        ClusterError: A DataKeyRequest can't be looked up.
    """
    manifests = parse_manifests(read_file(arguments.filename))
    found = None if arguments.offline else fetch_environment(cluster)
    try:
        settings = build_settings({**(found or {}), **_read_flags(arguments)})
    except ValueError as error:
        raise UserError(f"the webhook's settings can't be read: {error}") from None
    results = []
    for manifest in manifests:
        namespace = _namespace_of(manifest, arguments)
        fetch: FetchFacts = dict.fromkeys if arguments.offline else partial(_fetch_facts, cluster, namespace)
        try:
            results.append(inject(manifest, namespace, settings, fetch))
        except (AttributeError, LookupError, TypeError, ValueError):
            # The webhook sees only what the API server has checked; this manifest it hasn't.
            raise UserError(
                f"{manifest.place} ({manifest.kind}) isn't of the form that the API server takes: "
                "see what `kubectl apply --dry-run=server` says"
            ) from None
    if arguments.output == "json":
        console.document("Injection", {"items": [_to_json(one) for one in results]})
    else:
        _show(results, console, guessed=found is None and not arguments.offline)
    return 1 if any(one.refusal for one in results) else 0


def read_file(name: str) -> str:
    """Return the text of a file, of standard input for ``-``.

    Raises:
        UserError: It can't be read.
    """
    try:
        return sys.stdin.read() if name == _STDIN else Path(name).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it isn't UTF-8"
        raise UserError(f"{name} can't be read: {reason}") from None


def fetch_environment(cluster: Cluster) -> dict[str, str] | None:
    """Return the environment of the webhook's containers; None if it can't be seen.

    Raises:
        ClusterError: There is no answer.
    """
    configuration = cluster.look(
        paths.build_path(paths.ADMISSION, "mutatingwebhookconfigurations", None, WEBHOOK)
    )
    if isinstance(configuration, Gap):
        return None
    services = (one["clientConfig"].get("service") for one in configuration.get("webhooks") or ())
    namespace = next((service["namespace"] for service in services if service), None)
    if namespace is None:
        return None
    deployment = cluster.look(paths.build_path(paths.APPS, "deployments", namespace, WEBHOOK))
    return None if isinstance(deployment, Gap) else read_environment(deployment)


def read_environment(deployment: Json) -> dict[str, str]:
    """Return the variables of a Deployment's containers that have a plain value."""
    containers: Any = deployment["spec"]["template"]["spec"]["containers"]
    variables = [one for container in containers for one in container.get("env") or ()]
    return {one["name"]: one["value"] for one in variables if "value" in one}


def _read_flags(arguments: argparse.Namespace) -> dict[str, str]:
    flags = {
        "DATAKEYS_SIDECAR_IMAGE": arguments.sidecar_image,
        "DATAKEYS_KEYSERVICE_URL": arguments.keyservice_url,
        "DATAKEYS_CLUSTER_NAME": arguments.cluster_name,
    }
    return {name: value for name, value in flags.items() if value}


def _namespace_of(manifest: Manifest, arguments: argparse.Namespace) -> str:
    return str(manifest.body["metadata"].get("namespace") or arguments.namespace or _DEFAULT_NAMESPACE)


def _fetch_facts(cluster: Cluster, namespace: str, names: tuple[str, ...]) -> Mapping[str, Any]:
    """Return the facts of DataKeyRequests; None of one that doesn't exist.

    Raises:
        ClusterError: One can't be seen.
    """
    path = partial(paths.build_path, paths.DATAKEYS, paths.REQUESTS, namespace)
    answers = fetch_all({name: partial(cluster.look, path(name)) for name in names})
    for answer in answers.values():
        if isinstance(answer, Gap) and not answer.is_missing:
            raise ClusterError("Forbidden", answer.message)
    return {name: None if isinstance(one, Gap) else read_facts(one) for name, one in answers.items()}


def _to_json(result: Injected) -> Json:
    return {
        "place": result.manifest.place,
        "kind": result.manifest.kind,
        "name": result.manifest.name,
        "injected": result.is_changed,
        "refusal": result.refusal or None,
        "warnings": list(result.warnings),
        "podPatch": list(result.patch),
        "manifest": result.after,
    }


def _show(results: list[Injected], console: Console, *, guessed: bool) -> None:
    if guessed:
        text = "The webhook's settings can't be seen: image, address and Region below are guesses."
        console.line(console.paint(f"# {text}", Colour.YELLOW))
    if not results:
        console.line("# The file has no object with pods.")
    for result in results:
        title = f"{result.manifest.kind}/{result.manifest.name}"
        if result.refusal:
            console.line(console.paint(f"# {title} is refused: {clean(result.refusal)}", Colour.RED))
        elif not result.is_changed:
            console.line(f"# {title} is left as it is: it asks for no data key.")
        else:
            show_diff(build_diff(result.manifest.body, result.after, title), console)
        misspelt = map(": ".join, find_misspelt(_annotations_of(result.manifest.body)))
        for warning in (*misspelt, *result.warnings):
            console.line(console.paint(f"# {title}: {clean(warning)}", Colour.YELLOW))


def _annotations_of(body: Json) -> set[str]:
    """Return the names of the annotations of an object and of its pod template."""
    return {name for one in (body, find_template(body)) for name in one["metadata"].get("annotations") or ()}
