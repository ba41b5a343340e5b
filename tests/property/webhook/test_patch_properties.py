"""Any generated pod: the patch applies, is idempotent, removes nothing and touches only its own."""

import copy
import re
from dataclasses import replace
from typing import Any

import jsonpatch
from hypothesis import given
from hypothesis import strategies as st

from datakeys.contract import identity
from datakeys.webhook.patches import (
    RequestFacts,
    SidecarKind,
    SidecarSettings,
    build_injection,
    find_requests,
)
from datakeys.webhook.patches.aws_endpoint import DUMMY_CREDENTIALS, ENDPOINT_VARIABLE, REGION_VARIABLES

#: The generated pods have no variables of their own.
OWN_VARIABLES = {ENDPOINT_VARIABLE, *REGION_VARIABLES, *DUMMY_CREDENTIALS}
SETTINGS = SidecarSettings("datakeys-sidecar:test", "Always", "https://keyservice.example.svc:443", "c-1")
OWN_VOLUMES = re.compile(r"datakeys-(keys|encrypted|token|trust)(-[0-9]+)?")
KEYS = "/var/run/datakeys/keys"
#: All that a user or the webhook may write.
ANNOTATIONS = sorted(
    value.partition("/")[2] for name, value in vars(identity).items() if name.startswith("ANNOTATION_")
)

labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12).filter(
    lambda text: text[0] != "-" != text[-1]
)
subdomains = st.lists(labels, min_size=1, max_size=3).map(".".join)
free_names = labels.filter(lambda name: not name.startswith("datakeys-"))
free_paths = st.lists(labels, min_size=1, max_size=4).map(
    lambda parts: "/" + "/".join(parts)
) | st.sampled_from(["/", "/var/run", "/var/run/datakeys2", "/run"])
users = st.none() | st.sampled_from([0, 1000, 10001])
opaque = st.dictionaries(labels, st.integers() | st.text() | st.none(), max_size=3)


def maybe(key: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Give an object with or without a member, null included."""
    return st.just({}) | st.builds(lambda value: {key: value}, st.none() | values)


def optional(key: str, value: str) -> st.SearchStrategy[dict[str, str]]:
    """Give an annotation, or none."""
    return st.sampled_from([{}, {key: value}])


def merge(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Give the union of objects."""
    return st.tuples(*parts).map(lambda made: {key: value for part in made for key, value in part.items()})


def build_containers(
    names: st.SearchStrategy[str], paths: st.SearchStrategy[str]
) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Give containers without two of one name, as the API server demands."""
    mounts = st.lists(st.fixed_dictionaries({"name": names, "mountPath": paths}), max_size=3)
    container = merge(
        maybe("x", opaque),
        st.fixed_dictionaries({"name": names}),
        maybe("securityContext", maybe("runAsUser", users)),
        maybe("volumeMounts", mounts),
        maybe("restartPolicy", st.just("Always")),
    )
    return st.lists(container, unique_by=lambda one: one["name"], min_size=1, max_size=5)


def build_volumes(names: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    """Give the member ``volumes``, or none."""
    return maybe(
        "volumes", st.lists(names, unique=True, max_size=4).map(lambda made: [{"name": n} for n in made])
    )


@st.composite
def build_pods(
    draw: st.DrawFn, names: st.SearchStrategy[str], paths: st.SearchStrategy[str]
) -> dict[str, Any]:
    """Give a pod with sound annotations; its names, paths and users may clash."""
    everything = draw(build_containers(names, paths))
    cut = draw(st.integers(1, len(everything)))
    spec: dict[str, Any] = {"containers": everything[:cut]}
    spec.update(draw(maybe("securityContext", maybe("runAsUser", users))))
    spec.update(draw(maybe("hostUsers", st.booleans())))
    spec.update(draw(build_volumes(names)))
    bare: bool = draw(st.booleans())
    if everything[cut:] or bare:
        spec["initContainers"] = everything[cut:]
    annotations = draw(st.dictionaries(subdomains, st.text(max_size=8), max_size=3))
    requests = draw(st.lists(subdomains, min_size=1, max_size=4, unique=True))
    annotations["datakeys.dev/requests"] = ", ".join(requests)
    if draw(st.booleans()):
        present = st.sampled_from([one["name"] for one in everything])
        annotations["datakeys.dev/containers"] = ",".join(draw(st.lists(present, min_size=1, unique=True)))
    annotations.update(draw(optional("datakeys.dev/delivery", "socket")))
    annotations.update(draw(optional("datakeys.dev/injected", "faked")))
    annotations.update(draw(optional("datakeys.dev/aws-endpoint", "true")))
    labelled = {"datakeys.dev/inject": "true", **draw(st.dictionaries(labels, labels, max_size=2))}
    return {"metadata": {"labels": labelled, "annotations": annotations}, "spec": spec}


@st.composite
def build_one_user_pods(
    draw: st.DrawFn, names: st.SearchStrategy[str], paths: st.SearchStrategy[str]
) -> dict[str, Any]:
    """Give a pod whose receivers all run as one user."""
    pod: dict[str, Any] = draw(build_pods(names, paths))
    user = draw(st.sampled_from([0, 1000, 10001]))
    chosen = pod["metadata"]["annotations"].get("datakeys.dev/containers", "").split(",")
    by_pod: bool = draw(st.booleans())
    if by_pod:
        pod["spec"]["securityContext"] = {"runAsUser": user}
    for kind in ("containers", "initContainers"):
        for container in pod["spec"].get(kind, []):
            if container["name"] in chosen or (chosen == [""] and kind == "containers"):
                container["securityContext"] = {} if by_pod and draw(st.booleans()) else {"runAsUser": user}
    return pod


clashing_names = free_names | st.sampled_from(["datakeys-sidecar", "datakeys-keys", "datakeys-token"])
clashing_paths = free_paths | st.sampled_from(["/var/run/datakeys/keys", "/run/datakeys"])
#: No clash of any kind: these must be injected.
sound_pods = build_one_user_pods(free_names, free_paths)
hostile_pods = (
    build_pods(clashing_names, clashing_paths)
    | build_one_user_pods(clashing_names, free_paths)
    | build_one_user_pods(free_names, clashing_paths)
)
versions = st.tuples(st.integers(1, 16), st.integers(1, 16)).map(lambda pair: (max(pair), min(pair)))
facts = st.none() | st.builds(
    lambda secret, account, dry_run, version: RequestFacts(secret, account, dry_run, *version),
    subdomains,
    labels,
    st.booleans(),
    versions,
)


def names_of(volumes: list[dict[str, Any]] | None) -> set[str]:
    """Return the names of volumes or mounts."""
    return {one["name"] for one in volumes or []}


def strip(pod: dict[str, Any], own: set[str]) -> dict[str, Any]:
    """Return the pod without what is the webhook's: its volumes are ``own``; empty lists count as absent."""
    pod = copy.deepcopy(pod)
    pod["metadata"]["annotations"].pop("datakeys.dev/injected", None)
    spec = pod["spec"]
    for kind in ("containers", "initContainers"):
        spec[kind] = [one for one in spec.get(kind) or [] if one["name"] != "datakeys-sidecar"]
        for container in spec[kind]:
            mounts = container.get("volumeMounts") or []
            container["volumeMounts"] = [one for one in mounts if one["name"] not in own]
            container["env"] = [one for one in container.get("env") or [] if one["name"] not in OWN_VARIABLES]
    spec["volumes"] = [one for one in spec.get("volumes") or [] if one["name"] not in own]
    return pod


def check_patched(pod: dict[str, Any], found: dict[str, RequestFacts | None]) -> dict[str, Any]:
    """Check that the patch applies, only adds, is idempotent and leaves the rest alone; return the pod."""
    before = copy.deepcopy(pod)
    injection = build_injection(pod, found, SETTINGS)
    assert pod == before
    assert injection.refusal is None
    assert injection.patch
    assert all(operation["op"] == "add" for operation in injection.patch)
    patched: dict[str, Any] = jsonpatch.apply_patch(pod, list(injection.patch))
    own = names_of(patched["spec"]["volumes"]) - names_of(pod["spec"].get("volumes"))
    assert strip(patched, own) == strip(pod, set())
    again = build_injection(patched, {}, SETTINGS)
    assert (again.patch, again.refusal) == ((), None)
    first = patched["spec"]["initContainers"][0]
    assert (first["name"], first["restartPolicy"]) == ("datakeys-sidecar", "Always")
    check_own_names(patched["spec"], own)
    return patched


def check_own_names(spec: dict[str, Any], own: set[str]) -> None:
    """Check that every name is there once, and that apps mount of the webhook's volumes the keys only."""
    volumes = [one["name"] for one in spec["volumes"]]
    assert len(own) in (2, 4)
    assert all(OWN_VOLUMES.fullmatch(name) for name in own)
    containers = spec["containers"] + spec["initContainers"]
    for names in (volumes, [one["name"] for one in containers]):
        assert len(set(names)) == len(names)
    apps = spec["containers"] + spec["initContainers"][1:]
    mounts = [mount for one in apps for mount in one.get("volumeMounts") or []]
    assert all(
        (mount["mountPath"], mount["readOnly"]) == (KEYS, True) for mount in mounts if mount["name"] in own
    )


@given(sound_pods, st.data())
def test_sound_pod_is_patched_once_and_only_with_our_own(pod: dict[str, Any], data: st.DataObject) -> None:
    """Apply, rebuild: empty; without the webhook's fields the pod is as it was. No pod is let off here."""
    names = find_requests(pod)
    assert names
    check_patched(pod, {name: data.draw(facts) for name in names})


@given(sound_pods)
def test_receivers_run_as_the_sidecar_and_find_the_keys(pod: dict[str, Any]) -> None:
    """Exactly the chosen containers have the keys, read-only, and they have the sidecar's UID."""
    spec = check_patched(pod, {})["spec"]
    user = spec["initContainers"][0]["securityContext"]["runAsUser"]
    everything = spec["containers"] + spec["initContainers"][1:]
    receivers = [
        one for one in everything if KEYS in {mount["mountPath"] for mount in one.get("volumeMounts") or []}
    ]
    chosen = pod["metadata"]["annotations"].get("datakeys.dev/containers")
    wanted = set(chosen.split(",")) if chosen else {one["name"] for one in spec["containers"]}
    assert {one["name"] for one in receivers} == wanted
    for container in receivers:
        own = (container.get("securityContext") or {}).get("runAsUser")
        assert user == (spec["securityContext"]["runAsUser"] if own is None else own)


@given(hostile_pods)
def test_hostile_pod_is_patched_cleanly_or_refused_by_field(pod: dict[str, Any]) -> None:
    """Clashing names, paths and users: no error, no half-measures, and a refusal names a field."""
    injection = build_injection(pod, {}, SETTINGS)
    if injection.refusal:
        assert injection.patch == ()
        assert injection.refusal.message.startswith("spec.")
    else:
        check_patched(pod, {})


TEXTS = st.text(max_size=300) | st.sampled_from(
    [
        "true",
        "once",
        "pod",
        "init",
        "socket",
        "0440",
        "0444",
        "1h",
        "7",
        "main",
        "alias/a",
        "Deployment/x",
        "a=b",
    ]
)


@given(
    st.dictionaries(st.sampled_from(ANNOTATIONS), TEXTS),
    st.sampled_from([SETTINGS, replace(SETTINGS, kind=SidecarKind.ORDINARY)]),
    st.sampled_from([None, "Always", "Never"]),
    st.sampled_from([None, 1]),
)
def test_any_annotation_is_taken_or_refused(
    annotations: dict[str, str], settings: SidecarSettings, restart_policy: str | None, user: int | None
) -> None:
    """No text in an annotation makes an error; a refusal names an annotation or a field of the pod."""
    pod = {
        "metadata": {
            "name": "x-0",
            "labels": {"datakeys.dev/inject": "true"},
            "annotations": {f"datakeys.dev/{name}": text for name, text in annotations.items()},
        },
        "spec": {
            "containers": [{"name": "app"}],
            "securityContext": {"runAsUser": user},
            "restartPolicy": restart_policy,
        },
    }
    decision = build_injection(pod, {}, settings)
    if decision.refusal:
        assert decision.refusal.message.startswith(("annotation datakeys.dev/", "spec."))
        return
    patched = jsonpatch.apply_patch(pod, list(decision.patch))
    again = build_injection(patched, {}, settings)
    assert (again.patch, again.refusal) == ((), None)
    gate = patched["spec"]["initContainers"][0]
    variables = {one["name"]: one["value"] for one in gate["env"]}
    # Each delivered name has its folder, and the sidecar is told of both.
    sources = [
        source["secret"]["items"][0]["path"].rpartition("/")[0]
        for volume in patched["spec"]["volumes"]
        for source in volume.get("projected", {}).get("sources", [])
        if "secret" in source
    ]
    assert [name for name in variables["DATAKEYS_REQUESTS"].split(",") if name] == sources
