"""The CRDs in the repository are those of the contract."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.mark.parametrize(
    ("key_id", "accepted"),
    [
        ("0f4c4a3e-0000-4000-8000-000000000001", True),
        ("arn:k8s:kms:cluster-1:shop:key/0f4c4a3e-0000-4000-8000-000000000001", True),
        ("alias/orders", False),
        ("arn:k8s:kms:cluster-1:shop:alias/orders", False),
        ("arn:k8s:kms:cluster-1:shop:key/orders", False),
        ("0F4C4A3E-0000-4000-8000-000000000001", False),
        ("", False),
    ],
)
@pytest.mark.parametrize(("crd", "member"), [("kmsgrants", "keyId"), ("kmsaliases", "targetKeyId")])
def test_grants_and_aliases_name_the_key_itself(crd: str, member: str, key_id: str, accepted: bool) -> None:
    """Where KMS takes key id or key ARN and no alias, so do the CRDs."""
    (version,) = build_all_crds()[f"{crd}.datakeys.dev"]["spec"]["versions"]
    schema = version["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"][member]
    assert (re.search(schema["pattern"], key_id) is not None) is accepted
