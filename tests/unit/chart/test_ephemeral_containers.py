"""The policy on ephemeral containers; what it says is tried on a real API server."""

from chart_rendering import environment_of, find, of_kind, render

NAME = "datakeys-ephemeral-containers"


def test_policy_judges_ephemeral_containers_in_every_namespace() -> None:
    """Nothing is excluded, and what can't be judged is refused."""
    manifests = render()
    spec = find(manifests, "ValidatingAdmissionPolicy", NAME)["spec"]
    assert spec["failurePolicy"] == "Fail"
    (rule,) = spec["matchConstraints"]["resourceRules"]
    assert rule["resources"] == ["pods/ephemeralcontainers"]
    assert "UPDATE" in rule["operations"]
    assert find(manifests, "ValidatingAdmissionPolicyBinding", NAME)["spec"] == {
        "policyName": NAME,
        "validationActions": ["Deny"],
    }


def test_policy_can_be_left_out() -> None:
    manifests = render({"admission.ephemeralContainers": "Allow"})
    kinds = ("ValidatingAdmissionPolicy", "ValidatingAdmissionPolicyBinding")
    assert NAME not in {item["metadata"]["name"] for item in of_kind(manifests, *kinds)}


def test_kind_of_sidecar_reaches_the_webhook() -> None:
    assert environment_of(render(), "webhook")["DATAKEYS_SIDECAR_KIND"] == "native"
    ordinary = environment_of(render({"sidecar.kind": "ordinary"}), "webhook")
    assert ordinary["DATAKEYS_SIDECAR_KIND"] == "ordinary"
