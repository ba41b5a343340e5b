"""All measurements of the workload's side, one after another on one cluster; less than ten minutes."""

import importlib.util
from pathlib import Path

from bench_cluster import run

ROUNDS = {"admission": 1000, "sidecar": 5, "pod_start": 12}


def load(name: str):
    """Return the function ``measure`` of a folder's measure.py."""
    spec = importlib.util.spec_from_file_location(
        f"measure_{name}", Path(__file__).parent / name / "measure.py"
    )
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.measure


if __name__ == "__main__":
    run({name: (load(name), rounds) for name, rounds in ROUNDS.items()})
