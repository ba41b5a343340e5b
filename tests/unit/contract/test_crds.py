"""The CRDs in the repository are those of the contract."""

import subprocess
import sys
from pathlib import Path

from datakeys.contract.crd import build_all_crds
from datakeys.contract.key_types import ALLOWED_USAGES, KeySpec

ROOT = Path(__file__).parents[3]


def test_generated_files_are_up_to_date() -> None:
    """Source, crds/ and chart can't drift apart."""
    done = subprocess.run(
        [sys.executable, "hack/generate_crds.py", "--check"],
        cwd=ROOT,
        env={"PYTHONPATH": "operator"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_member_has_a_description() -> None:
    """``kubectl explain`` answers for every field."""

    def walk(schema: dict, path: str) -> None:  # type: ignore[type-arg]
        for name, member in schema.get("properties", {}).items():
            assert member.get("description"), f"{path}.{name}"
            walk(member, f"{path}.{name}")
        if "items" in schema:
            walk(schema["items"], f"{path}[]")

    for name, crd in build_all_crds().items():
        walk(crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"], name)


def test_every_key_spec_has_usages() -> None:
    """No key spec is forgotten in the table of usages."""
    assert set(ALLOWED_USAGES) == set(KeySpec)
