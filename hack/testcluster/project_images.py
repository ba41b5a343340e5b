"""The project's images, each built anew only when something that it is made of has changed."""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from testcluster import base_image, image_builder
from testcluster.locations import IMAGE_RECIPES, TREE, cache_root
from testcluster.progress import say, step

ROOMS = ("controller", "webhook", "keyservice", "sidecar")
_KEPT_ARCHIVES = 3
_FIXED_TIME = 1_700_000_000  # seconds since the epoch; any constant will do


@dataclass(frozen=True)
class ProjectImage:
    """One image: how it is built and all that goes into it."""

    name: str
    dockerfile: Path
    inputs: tuple[Path, ...]  # files and folders; these and the Dockerfile's path are relative to the tree
    target: str = ""

    def reference(self, tag: str) -> str:
        """Full name, as a Pod's short `image: name:tag` is understood by the node."""
        return f"docker.io/library/{self.name}:{tag}"

    def files(self, tree: Path) -> list[Path]:
        """All files that the build reads, relative to the tree."""
        return sorted(file.relative_to(tree) for file in _files(tree, (self.dockerfile, *self.inputs)))

    def archive(self, tag: str, tree: Path = TREE) -> Path:
        """Place of the built image in the cache; other contents give another place."""
        key = hashlib.sha256(base_image.recipe_hash().encode())
        for file in self.files(tree):
            key.update(f"{file}\0".encode() + (tree / file).read_bytes() + b"\0")
        return cache_root() / "images" / self.name / f"{tag}-{key.hexdigest()[:16]}.tar"


def all_images() -> list[ProjectImage]:
    """The image of each room, and the application of examples and tests."""
    recipes = IMAGE_RECIPES.relative_to(TREE)
    app = ProjectImage("datakeys-example-app", recipes / "app.Dockerfile", (recipes / "app.lock",))
    return [*(_image_of_room(room) for room in ROOMS), app]


def ensure(tag: str = "dev") -> dict[str, Path]:
    """Build what has changed, and return the archive of each image by its full name."""
    archives = {image.reference(tag): image.archive(tag) for image in all_images()}
    missing = [image for image in all_images() if not archives[image.reference(tag)].exists()]
    if not missing:
        say("all images are up to date")
        return archives
    base_image.ensure()
    for number, image in enumerate(missing, start=1):
        with step(f"[{number}/{len(missing)}] image {image.name}:{tag}"):
            archives[image.reference(tag)] = _build(image, tag)
    return archives


def _image_of_room(room: str) -> ProjectImage:
    package = Path("operator/datakeys")
    sources = (package / "__init__.py", package / "contract", package / room)
    lock = Path("requirements") / f"{room}.lock"
    return ProjectImage(f"datakeys-{room}", Path("Dockerfile"), (Path(".dockerignore"), lock, *sources), room)


def _build(image: ProjectImage, tag: str) -> Path:
    """Build from a copy: an edit made meanwhile must not end up in an image that is not named for it."""
    bases = {"BASE_IMAGE": base_image.BASE, "BUILDER_IMAGE": base_image.BUILDER}
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder)
        _copy_inputs(image, copy)
        archive = image.archive(tag, copy)
        image_builder.build_archive(
            copy / image.dockerfile,
            copy,
            image.reference(tag),
            archive,
            target=image.target,
            build_arguments=bases,
        )
    earlier = sorted(archive.parent.glob(f"{tag}-*.tar"), key=lambda file: file.stat().st_mtime)
    for old in earlier[:-_KEPT_ARCHIVES]:
        old.unlink()
    return archive


def _copy_inputs(image: ProjectImage, target: Path) -> None:
    """Copy the inputs with one fixed time and mode: the layer cache heeds both, and clones differ in them."""
    for file in image.files(TREE):
        copied = target / file
        copied.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(TREE / file, copied)
        copied.chmod(0o644)
    for path in (target, *target.rglob("*")):
        if path.is_dir():
            path.chmod(0o755)
        os.utime(path, (_FIXED_TIME, _FIXED_TIME))


def _files(tree: Path, paths: Iterable[Path]) -> Iterator[Path]:
    for path in (tree / path for path in paths):
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from (file for file in path.rglob("*") if _is_source(file))


def _is_source(file: Path) -> bool:
    return file.is_file() and "__pycache__" not in file.parts
