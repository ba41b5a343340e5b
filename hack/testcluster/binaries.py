"""Builds the Go programs into the cache. A program that is there is complete: it is renamed into place."""

import fcntl
import hashlib
import os
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from testcluster.locations import cache_root
from testcluster.progress import TestclusterError, log_tail, say, step
from testcluster.recipes import ALL, Binary

# The same program for everyone: no host compiler, no local paths, and exactly the modules of go.sum.
_BUILD_ENVIRONMENT = {"CGO_ENABLED": "0", "GOFLAGS": "-mod=readonly", "GOWORK": "off"}


def path_of(binary: Binary) -> Path:
    """Place of a program in the cache; another version, go.mod or go.sum gives another place.

    Programs of one group share a folder: CNI plugins and the containerd shim are found by folder.
    """
    recipe = hashlib.sha256(binary.linker_flags.encode())
    for file in sorted(binary.module_directory.iterdir()):
        recipe.update(file.name.encode() + b"\0" + file.read_bytes())
    key = f"{binary.version}-{recipe.hexdigest()[:12]}"
    return cache_root() / "binaries" / binary.group / key / binary.name


def ensure(binaries: Iterable[Binary] = ALL) -> None:
    """Build what is not in the cache, one after the other, and say so.

    Raises:
        TestclusterError: A build failed; the message holds the end of the compiler's output.
    """
    wanted = list(binaries)
    missing = [binary for binary in wanted if not path_of(binary).exists()]
    if not missing:
        return
    with _build_lock():
        for number, binary in enumerate(missing, start=1):
            with step(f"[{number}/{len(missing)}] {binary.name} {binary.version}"):
                if not path_of(binary).exists():  # another build may have held the lock
                    _build(binary)
    link_all()


def link_all() -> Path:
    """Point the links in the cache's `bin` folder, meant for a PATH, at the programs of this tree."""
    folder = cache_root() / "bin"
    folder.mkdir(parents=True, exist_ok=True)
    for binary in ALL:
        target = path_of(binary)
        if target.exists():
            fresh = folder / f".{binary.name}.{os.getpid()}"
            fresh.symlink_to(target)
            fresh.replace(folder / binary.name)
    return folder


def _build(binary: Binary) -> None:
    target = path_of(binary)
    target.parent.mkdir(parents=True, exist_ok=True)
    unfinished = target.with_name(f".{binary.name}.unfinished")
    log = cache_root() / "build-logs" / f"{binary.name}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    command = ["go", "build", "-trimpath", "-buildvcs=false", "-ldflags", binary.linker_flags]
    with log.open("wb") as output:
        result = subprocess.run(
            [*command, "-o", str(unfinished), binary.package],
            cwd=binary.module_directory,
            env={**os.environ, **_BUILD_ENVIRONMENT},
            stdout=output,
            stderr=subprocess.STDOUT,
            check=False,
        )
    if result.returncode != 0:
        raise TestclusterError(f"building {binary.name} failed:\n{log_tail(log)}")
    unfinished.replace(target)


@contextmanager
def _build_lock() -> Iterator[None]:
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / "build.lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another build is running; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield
