"""The chart as a package: lint, version, CRDs and the fixed names of its objects."""

import tomllib

import yaml

from chart_rendering import CHART, PROCESSES, Manifest, of_kind, run_helm, set_options


def test_chart_passes_the_strict_lint() -> None:
    """Helm finds neither errors nor warnings."""
    done = run_helm("lint", "--strict", str(CHART), *set_options({}))
    assert done.returncode == 0, done.stdout + done.stderr


def test_chart_is_the_version_of_the_package() -> None:
    """Chart version and appVersion follow the Python package."""
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((CHART.parents[1] / "pyproject.toml").read_text())["project"]
    assert chart["version"] == chart["appVersion"] == project["version"]


def test_chart_carries_the_generated_crds() -> None:
    """The chart's CRDs are the very files that are generated from the contract."""
    root = CHART.parents[1]
    generated = {path.name: path.read_text() for path in (root / "crds").glob("*.yaml")}
    carried = {path.name: path.read_text() for path in (CHART / "crds").iterdir()}
    assert generated
    assert carried == generated


def test_objects_have_the_names_by_which_processes_find_each_other(manifests: list[Manifest]) -> None:
    """ServiceAccounts, Deployments and Services of all three processes are named after them."""
    names = {f"datakeys-{process}" for process in PROCESSES}
    for kind in ("ServiceAccount", "Deployment", "Service", "NetworkPolicy", "PodDisruptionBudget"):
        assert {item["metadata"]["name"] for item in of_kind(manifests, kind)} == names, kind


def test_chart_makes_no_secret(manifests: list[Manifest]) -> None:
    """Neither keys nor certificates come from the chart; the key service makes them."""
    assert not list(of_kind(manifests, "Secret", "ConfigMap"))
