"""The Python base of the project's images, made from Debian packages instead of pulled."""

import hashlib
import os
import shutil
import subprocess
import tempfile
from pathlib import Path

from testcluster import debian, image_builder
from testcluster.locations import IMAGE_RECIPES, cache_root
from testcluster.progress import TestclusterError, log_tail, say, step

_SUITE = "bookworm"
_INCLUDED = "python3,python3-pip,ca-certificates"
# The builder keeps these, the base does not: a running process needs no installer.
_PURGED = [
    "python3-pip",
    "python3-setuptools",
    "python3-wheel",
    "python3-pkg-resources",
    "python3-distutils",
    "python3-lib2to3",
    "apt",
    "gpgv",
    "debian-archive-keyring",
    "adduser",
    "e2fsprogs",
    "logsave",
    "mount",
]
_REMOVED = [
    "usr/share/doc",
    "usr/share/man",
    "usr/share/locale",
    "usr/share/info",
    "usr/share/lintian",
    "usr/share/bash-completion",
    "var/lib/apt",
    "var/cache/apt",
    "var/cache/debconf",
    "var/cache/ldconfig",
    "var/log",
    "usr/lib/python3.11/test",
]

BASE = "localhost/datakeys-python-base:bookworm"
BUILDER = "localhost/datakeys-python-builder:bookworm"


def recipe_hash() -> str:
    """Changes with everything that decides what is in the base."""
    recipe = f"1 {_SUITE} {_INCLUDED} {_PURGED} {_REMOVED}".encode()
    return hashlib.sha256(recipe + (IMAGE_RECIPES / "base.Dockerfile").read_bytes()).hexdigest()[:12]


def ensure() -> None:
    """Make the base and the builder image, or bring them from the cache into buildah's storage."""
    folder = cache_root() / "base" / recipe_hash()
    if not (folder / "builder.tar").exists():
        _make_root_file_systems(folder)
    for reference, name in ((BASE, "base"), (BUILDER, "builder")):
        archive = folder / f"{name}-image.tar"
        if archive.exists() and image_builder.has_image(reference):
            continue
        with step(f"image {reference}"), tempfile.TemporaryDirectory(dir=folder) as context:
            os.link(folder / f"{name}.tar", Path(context) / "rootfs.tar")
            dockerfile = IMAGE_RECIPES / "base.Dockerfile"
            image_builder.build_archive(dockerfile, Path(context), reference, archive)


def _make_root_file_systems(folder: Path) -> None:
    debian.install_missing()
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as temporary:
        root = Path(temporary) / "root"
        with step(f"Debian {_SUITE} with Python, by debootstrap"):
            command = ["debootstrap", "--variant=minbase", f"--include={_INCLUDED}", _SUITE, str(root)]
            _run(command, folder / "debootstrap.log")
        with step("making it small"):
            _slim(root)
            builder = _pack(root, folder / "builder.tar.unfinished")
            force = ("--force-depends", "--force-remove-essential", "--force-remove-protected")
            purge = ["chroot", str(root), "dpkg", "--purge", *force, *_PURGED]
            _run(purge, folder / "purge.log")
            _slim(root)
            _pack(root, folder / "base.tar.unfinished").replace(folder / "base.tar")
            builder.replace(folder / "builder.tar")  # the last one: it is what `ensure` looks for


def _slim(root: Path) -> None:
    for name in _REMOVED:
        shutil.rmtree(root / name, ignore_errors=True)
    (root / "var/log").mkdir(exist_ok=True)
    for cache in list((root / "usr").rglob("__pycache__")):
        if "python3.11" not in cache.parts:
            shutil.rmtree(cache, ignore_errors=True)


def _pack(root: Path, archive: Path) -> Path:
    log = archive.with_suffix(".log")
    excluded = [f"--exclude=./{folder}/*" for folder in ("proc", "sys", "dev", "run", "tmp")]
    _run(["tar", "--numeric-owner", *excluded, "-C", str(root), "-cf", str(archive), "."], log)
    say(f"{archive.name.partition('.')[0]} root file system: {archive.stat().st_size // 2**20} MiB")
    return archive


def _run(command: list[str], log: Path) -> None:
    with log.open("wb") as output:
        result = subprocess.run(command, stdout=output, stderr=subprocess.STDOUT, check=False)
    if result.returncode != 0:
        raise TestclusterError(f"{command[0]} failed:\n{log_tail(log)}")
