"""Brings images to a cluster's node: nothing can be pulled there."""

import hashlib
import subprocess
from collections.abc import Mapping
from pathlib import Path

from testcluster import image_builder, recipes
from testcluster.binaries import path_of
from testcluster.configuration import PAUSE_IMAGE
from testcluster.layout import ClusterLayout
from testcluster.locations import IMAGE_RECIPES, cache_root
from testcluster.progress import TestclusterError, step


def ensure_pause() -> Path:
    """Return the archive of the sandbox image that each pod needs, built if it is missing."""
    program = path_of(recipes.PAUSE)
    dockerfile = IMAGE_RECIPES / "pause.Dockerfile"
    key = hashlib.sha256(str(program).encode() + dockerfile.read_bytes()).hexdigest()[:12]
    archive = cache_root() / "images" / "pause" / f"{key}.tar"
    if not archive.exists():
        with step("sandbox image"):
            image_builder.build_archive(dockerfile, program.parent, PAUSE_IMAGE, archive)
    return archive


def load(layout: ClusterLayout, archives: Mapping[str, Path]) -> None:
    """Import the archives that this node does not have yet; a running pod keeps the image it started with.

    Raises:
        TestclusterError: containerd refused an archive.
    """
    seen = layout.directory / "loaded-images"
    seen.mkdir(exist_ok=True)
    for reference, archive in archives.items():
        mark = seen / f"{archive.parent.name}-{archive.stem.split('-', 1)[0]}"
        if mark.exists() and mark.read_text() == str(archive):
            continue
        with step(f"loading {reference} into {layout.name}"):
            _import(layout, archive)
        mark.write_text(str(archive))


def _import(layout: ClusterLayout, archive: Path) -> None:
    socket = f"--address={layout.containerd_socket}"
    command = [str(path_of(recipes.CTR)), socket, "--namespace=k8s.io", "images", "import", str(archive)]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise TestclusterError(f"importing {archive.name}: {result.stderr.strip()[-500:]}")
