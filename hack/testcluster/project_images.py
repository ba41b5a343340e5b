"""The project's images, each built anew only when something that it is made of has changed."""

import hashlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from testcluster import base_image, image_builder
from testcluster.locations import IMAGE_RECIPES, TREE, cache_root
from testcluster.progress import TestclusterError, say, step

ROOMS = ("controller", "webhook", "keyservice", "sidecar")
_KEPT_ARCHIVES = 3


@dataclass(frozen=True)
class ProjectImage:
    """One image: how it is built and all that goes into it."""

    name: str
    dockerfile: Path
    inputs: tuple[Path, ...]
    target: str = ""

    def reference(self, tag: str) -> str:
        """Full name, as a Pod's short `image: name:tag` is understood by the node."""
        return f"docker.io/library/{self.name}:{tag}"

    def archive(self, tag: str) -> Path:
        """Place of the built image in the cache; other contents give another place."""
        key = hashlib.sha256(base_image.recipe_hash().encode())
        for file in sorted(_files((self.dockerfile, *self.inputs))):
            key.update(f"{file.relative_to(TREE)}\0".encode() + file.read_bytes() + b"\0")
        return cache_root() / "images" / self.name / f"{tag}-{key.hexdigest()[:16]}.tar"


def all_images() -> list[ProjectImage]:
    """The image of each room, and the application of examples and tests."""
    app = IMAGE_RECIPES / "app.lock"
    return [
        *(_image_of_room(room) for room in ROOMS),
        ProjectImage("datakeys-example-app", IMAGE_RECIPES / "app.Dockerfile", (app,)),
    ]


def ensure(tag: str = "dev") -> dict[str, Path]:
    """Build what has changed, and return the archive of each image by its full name."""
    images = all_images()
    missing = [image for image in images if not image.archive(tag).exists()]
    if missing:
        base_image.ensure()
    for number, image in enumerate(missing, start=1):
        with step(f"[{number}/{len(missing)}] image {image.name}:{tag}"):
            _build(image, tag)
    if not missing:
        say("all images are up to date")
    return {image.reference(tag): image.archive(tag) for image in images}


def _image_of_room(room: str) -> ProjectImage:
    package = TREE / "operator" / "datakeys"
    inputs = (
        TREE / ".dockerignore",
        TREE / "requirements" / f"{room}.lock",
        package / "__init__.py",
        package / "contract",
        package / room,
    )
    return ProjectImage(f"datakeys-{room}", TREE / "Dockerfile", inputs, target=room)


def _build(image: ProjectImage, tag: str) -> None:
    """Build an image.

    Raises:
        TestclusterError: Its inputs changed meanwhile, so nobody knows what is in it.
    """
    archive = image.archive(tag)
    bases = {"BASE_IMAGE": base_image.BASE, "BUILDER_IMAGE": base_image.BUILDER}
    image_builder.build_archive(
        image.dockerfile, TREE, image.reference(tag), archive, target=image.target, build_arguments=bases
    )
    if image.archive(tag) != archive:
        archive.unlink()
        raise TestclusterError(f"the files of {image.name} changed during its build: build it again")
    earlier = sorted(archive.parent.glob(f"{tag}-*.tar"), key=lambda file: file.stat().st_mtime)
    for old in earlier[:-_KEPT_ARCHIVES]:
        old.unlink()


def _files(paths: Iterable[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_file():
            yield path
        elif path.is_dir():
            yield from (
                file for file in path.rglob("*") if file.is_file() and "__pycache__" not in file.parts
            )
