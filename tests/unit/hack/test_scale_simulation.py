"""The simulation behind docs/scale.md, where its outcome can be worked out by hand."""

import importlib
import random
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.unit
FOLDER = Path(__file__).parents[3] / "benchmarks" / "scale"
COSTS = {
    "decrypt": {"keyservice_cpu_seconds": 0.01, "apiserver_cpu_seconds": 0.0},
    "admission": {
        "apiserver_cpu_seconds_bare_pod": 0.0,
        "apiserver_cpu_seconds": 0.0,
        "webhook_cpu_seconds": 0.02,
    },
}


@pytest.fixture
def storm(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module of the simulation."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("storm")


@pytest.fixture
def growth(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module of the sums."""
    monkeypatch.syspath_prepend(FOLDER)
    return importlib.import_module("growth")


def run(storm: Any, **plan: Any) -> dict[str, float]:
    """Run one storm of pods whose kubelets need no time."""
    settings = storm.Plan(**{"kubelet_seconds": (0.0, 0.0), "timeout_seconds": 1e9, **plan})
    return dict(storm.Storm(settings, COSTS, random.Random(1)).run())  # noqa: S311 - no secret


def test_one_server_serves_one_after_the_other(storm: Any) -> None:
    """100 pods of 10 ms each before one replica: the last has its key after a second."""
    seen = run(storm, pods=100, replicas=1, new=False)
    assert seen["last_seconds"] == pytest.approx(1.0)
    assert seen["p50_seconds"] == pytest.approx(0.51)
    assert (seen["longest_queue"], seen["decrypts_per_second"], seen["retries"]) == (99, 99, 0)


def test_replicas_share_the_load(storm: Any) -> None:
    """Ten times the replicas: between a tenth of the time and, as pods choose at random, twice that."""
    assert 0.1 <= run(storm, pods=100, replicas=10, new=False)["last_seconds"] <= 0.25


def test_admission_paces_the_storm(storm: Any) -> None:
    """Two webhooks of 20 ms let 100 pods through in a second, whatever the key service could do."""
    seen = run(storm, pods=100, replicas=100, webhooks=2)
    assert seen["last_seconds"] == pytest.approx(1.01)
    assert seen["p99_seconds"] < 0.05


def test_a_sidecar_that_gives_up_asks_again(storm: Any) -> None:
    """Answers that come too late are work for nobody, and the pods still get their keys."""
    seen = run(storm, pods=100, replicas=1, new=False, timeout_seconds=0.505)
    assert seen["retries"] == 50
    assert seen["last_seconds"] >= 1.5


def test_a_limit_is_found_where_the_sum_meets_it(growth: Any) -> None:
    """100 bytes of start, 10 per namespace with its request, 1 per further request; 10 requests each."""
    names = ("etcd_bytes", "apiserver_memory", "controller_memory", "keyservice_memory")
    slopes: dict[str, Any] = {
        kind: dict.fromkeys(names, value)
        for kind, value in {"base": 100.0, "namespace": 10.0, "request": 1.0, "key": 0.0}.items()
    }
    slopes["restart_cpu_seconds_per_request"] = 0.5
    parts = growth.build_parts(slopes, failover_seconds=30, watches=113)
    base = growth.Size(requests=1000, namespaces=100, keys=100, replicas=1)
    sizes = {part.name: part.size_of(base) for part in parts}
    assert sizes["etcd, live objects"] == 100 + 100 * 10 + 900
    limits = {part.name: growth.find_limit(part, base) for part in parts}
    assert limits["controller, CPU time of a failover"] == pytest.approx(60)
    assert limits["controller, open watches"] == pytest.approx(1000)


def test_noise_is_no_slope(growth: Any) -> None:
    """A cost that isn't above zero was measured with too few objects."""
    with pytest.raises(SystemExit, match="measure with more requests"):
        growth.build_parts({"restart_cpu_seconds_per_request": -0.1}, failover_seconds=30, watches=10)
