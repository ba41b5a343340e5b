"""Any generated pod: the patch applies, is idempotent, removes nothing and touches only its own."""

import copy
from typing import Any

import jsonpatch
from hypothesis import given
from hypothesis import strategies as st

from datakeys.webhook.patches import RequestFacts, SidecarSettings, build_injection, find_requests

SETTINGS = SidecarSettings("datakeys-sidecar:test", "Always", "https://keyservice.example.svc:443")
OWN_VOLUMES = {"datakeys-keys", "datakeys-encrypted", "datakeys-token", "datakeys-trust"}
MOUNT = {"name": "datakeys-keys", "mountPath": "/var/run/datakeys/keys", "readOnly": True}

labels = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=12).filter(
    lambda text: text[0] != "-" != text[-1]
)
subdomains = st.lists(labels, min_size=1, max_size=3).map(".".join)
#: Some clash with the injected names, so that refusals are generated too.
volume_names = labels | st.sampled_from(["datakeys-keys", "datakeys-other"])
paths = st.lists(labels, min_size=1, max_size=4).map(lambda parts: "/" + "/".join(parts)) | st.sampled_from(
    ["/var/run", "/var/run/datakeys/keys", "/run/datakeys", "/"]
)
users = st.none() | st.sampled_from([0, 1000, 10001])
opaque = st.dictionaries(labels, st.integers() | st.text() | st.none(), max_size=3)


def maybe(key: str, values: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Give an object with or without a member, null included."""
    return st.just({}) | st.builds(lambda value: {key: value}, st.none() | values)


def merge(*parts: st.SearchStrategy[dict[str, Any]]) -> st.SearchStrategy[dict[str, Any]]:
    """Give the union of objects."""
    return st.tuples(*parts).map(lambda made: {key: value for part in made for key, value in part.items()})


contexts = maybe("securityContext", maybe("runAsUser", users))
mounts = st.lists(st.fixed_dictionaries({"name": labels, "mountPath": paths}), max_size=3)
containers = merge(
    maybe("x", opaque),
    st.fixed_dictionaries({"name": labels | st.just("datakeys-sidecar")}),
    contexts,
    maybe("volumeMounts", mounts),
    maybe("restartPolicy", st.just("Always")),
)


def unique(
    items: st.SearchStrategy[dict[str, Any]], *, min_size: int = 0, max_size: int
) -> st.SearchStrategy[list[dict[str, Any]]]:
    """Give lists without two items of one name, as the API server demands."""
    return st.lists(items, unique_by=lambda item: item["name"], min_size=min_size, max_size=max_size)


@st.composite
def pods(draw: st.DrawFn) -> dict[str, Any]:
    """Give a pod, its annotations mostly sound."""
    everything = draw(unique(containers, min_size=1, max_size=5))
    cut = draw(st.integers(1, len(everything)))
    spec: dict[str, Any] = {"containers": everything[:cut]}
    spec.update(draw(contexts))
    spec.update(draw(maybe("hostUsers", st.booleans())))
    bare: bool = draw(st.booleans())
    if everything[cut:] or bare:
        spec["initContainers"] = everything[cut:]
    spec.update(draw(maybe("volumes", unique(st.fixed_dictionaries({"name": volume_names}), max_size=4))))
    annotations = draw(st.dictionaries(subdomains, st.text(max_size=8), max_size=3))
    requests = draw(st.lists(subdomains, min_size=1, max_size=4, unique=True))
    annotations["datakeys.dev/requests"] = ", ".join(requests)
    if draw(st.booleans()):
        names = st.sampled_from([one["name"] for one in everything])
        annotations["datakeys.dev/containers"] = ",".join(draw(st.lists(names, min_size=1, unique=True)))
    if draw(st.booleans()):
        annotations["datakeys.dev/delivery"] = draw(st.sampled_from(["file", "socket"]))
    if draw(st.booleans()):
        annotations["datakeys.dev/injected"] = draw(st.text(max_size=5))
    metadata = {
        "labels": {"datakeys.dev/inject": "true", **draw(st.dictionaries(labels, labels, max_size=2))}
    }
    return {"metadata": {**metadata, "annotations": annotations}, "spec": spec}


facts = st.none() | st.builds(RequestFacts, subdomains, labels, st.booleans())


def strip(pod: dict[str, Any]) -> dict[str, Any]:
    """Return the pod without what is the webhook's; empty lists count as absent."""
    pod = copy.deepcopy(pod)
    pod["metadata"]["annotations"].pop("datakeys.dev/injected", None)
    spec = pod["spec"]
    for kind in ("containers", "initContainers"):
        spec[kind] = [one for one in spec.get(kind) or [] if one["name"] != "datakeys-sidecar"]
        for container in spec[kind]:
            container["volumeMounts"] = [one for one in container.get("volumeMounts") or [] if one != MOUNT]
    spec["volumes"] = [one for one in spec.get("volumes") or [] if one["name"] not in OWN_VOLUMES]
    return pod


@given(pods(), st.data())
def test_patch_applies_once_and_touches_only_its_own(pod: dict[str, Any], data: st.DataObject) -> None:
    """Apply, rebuild: empty; what remains without the webhook's fields is the pod as it was."""
    names = find_requests(pod)
    found = {name: data.draw(facts) for name in names}
    before = copy.deepcopy(pod)
    injection = build_injection(pod, found, SETTINGS)
    assert pod == before
    if injection.refusal or not injection.patch:
        assert injection.patch == ()
        return
    assert all(operation["op"] == "add" for operation in injection.patch)
    patched = jsonpatch.apply_patch(pod, list(injection.patch))
    assert strip(patched) == strip(pod)
    again = build_injection(patched, {}, SETTINGS)
    assert (again.patch, again.refusal) == ((), None)
    first = patched["spec"]["initContainers"][0]
    assert (first["name"], first["restartPolicy"]) == ("datakeys-sidecar", "Always")
    assert {one["name"] for one in patched["spec"]["volumes"]} >= OWN_VOLUMES


@given(pods())
def test_receivers_run_as_the_sidecar_and_find_the_keys(pod: dict[str, Any]) -> None:
    """Whoever has the keys mounted has the sidecar's UID, reads only, and mounts nothing over them."""
    injection = build_injection(pod, {}, SETTINGS)
    if injection.refusal or not injection.patch:
        return
    patched = jsonpatch.apply_patch(pod, list(injection.patch))
    spec = patched["spec"]
    user = spec["initContainers"][0]["securityContext"]["runAsUser"]
    receivers = [
        one
        for one in spec["containers"] + spec["initContainers"][1:]
        if any(mount["name"] == "datakeys-keys" for mount in one.get("volumeMounts") or [])
    ]
    assert receivers
    for container in receivers:
        own = (container.get("securityContext") or {}).get("runAsUser")
        if own is None:
            own = spec["securityContext"]["runAsUser"]
        assert own == user
        assert MOUNT in container["volumeMounts"]


@given(st.dictionaries(st.sampled_from(["requests", "delivery", "containers"]), st.text(max_size=300)))
def test_any_annotation_is_taken_or_refused(annotations: dict[str, str]) -> None:
    """No text in an annotation makes an error; a refusal names an annotation."""
    pod = {
        "metadata": {
            "labels": {"datakeys.dev/inject": "true"},
            "annotations": {f"datakeys.dev/{name}": text for name, text in annotations.items()},
        },
        "spec": {"containers": [{"name": "app"}], "securityContext": {"runAsUser": 1}},
    }
    refusal = build_injection(pod, {}, SETTINGS).refusal
    assert refusal is None or refusal.message.startswith("annotation datakeys.dev/")
