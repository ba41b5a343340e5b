"""The plugin as one file: complete, the same each time, and with nothing that it may not hold."""

import hashlib
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
import yaml

from build_plugin import build_archive, build_manifest, build_program, main
from kubectl_objects import kubectl_environment

POD = """
kind: Pod
metadata: {name: a, annotations: {datakeys.dev/key: main}}
spec: {securityContext: {runAsUser: 1}, containers: [{name: a, image: b}]}
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that ``make plugin`` writes."""
    folder = tmp_path_factory.mktemp("plugin")
    words = sys.argv
    sys.argv = ["build_plugin", str(folder)]
    try:
        main()
    finally:
        sys.argv = words
    return folder


def test_it_runs_without_any_installed_package(folder: Path, tmp_path: Path) -> None:
    """Isolated, without site-packages, and from a folder that isn't the project's."""
    (tmp_path / "pod.yaml").write_text(POD)
    done = subprocess.run(
        [sys.executable, "-I", "-S", folder / "kubectl-kms", "inject", "--offline", "-f", "pod.yaml"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "+  - name: datakeys-sidecar" in done.stdout


def test_kubectl_would_find_it(folder: Path) -> None:
    """A program of this name on PATH is the command ``kubectl kms``."""
    environment = kubectl_environment(f"{folder}{os.pathsep}{Path(sys.executable).parent}")
    done = subprocess.run(
        ["kubectl-kms", "--help"], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("usage: kubectl kms ")


def test_it_holds_the_plugin_s_rooms_and_no_other(folder: Path) -> None:
    """No process of the operator comes to a person's machine."""
    with zipfile.ZipFile(folder / "kubectl-kms") as archive:
        names = archive.namelist()
    rooms = {name.split("/")[1] for name in names if name.startswith("datakeys/")}
    assert rooms == {"__init__.py", "contract", "kubectl", "webhook"}
    webhook = {name for name in names if name.startswith("datakeys/webhook/")}
    assert all(name == "datakeys/webhook/__init__.py" or "/patches/" in name for name in webhook)
    assert not [name for name in names if name.endswith((".so", ".pyc"))]
    assert "yaml/LICENSE" in names


def test_the_same_source_gives_the_same_bytes() -> None:
    """So that a sum says something."""
    assert build_program() == build_program()
    program = build_program()
    assert build_archive(program) == build_archive(program)


def test_manifest_fits_the_archive(folder: Path) -> None:
    """Its sum, its files, and the version of the package."""
    manifest = yaml.safe_load((folder / "kms.yaml").read_text())
    (platform,) = manifest["spec"]["platforms"]
    archive = folder / "kms.tar.gz"
    assert platform["sha256"] == hashlib.sha256(archive.read_bytes()).hexdigest()
    assert manifest["spec"]["version"].startswith("v")
    with tarfile.open(archive) as opened:
        members = {member.name: member.mode for member in opened.getmembers()}
    assert {entry["from"] for entry in platform["files"]} == set(members)
    assert members[platform["bin"]] == 0o755
    assert "https://here/x" in build_manifest(b"", "https://here/x")
