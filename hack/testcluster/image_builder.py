"""Builds container images with buildah: no daemon, its storage in the cache, no rights but root's."""

import configparser
import fcntl
import os
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from testcluster.locations import cache_root
from testcluster.progress import TestclusterError, log_tail

_PIP_SETTINGS = ("index-url", "extra-index-url", "trusted-host", "timeout")
_CA_IN_BUILD = "/run/host-ca.pem"


def build_archive(
    dockerfile: Path,
    context: Path,
    reference: str,
    archive: Path,
    *,
    target: str = "",
    build_arguments: Mapping[str, str] | None = None,
) -> None:
    """Build an image and write it as an OCI archive, renamed into place when it is complete."""
    options = [f"--build-arg={name}={value}" for name, value in (build_arguments or {}).items()]
    if target:
        options.append(f"--target={target}")
    with _storage_lock(), tempfile.TemporaryDirectory() as folder:
        options += _host_pip_settings(Path(folder))
        command = ["bud", "--isolation=chroot", "--layers", f"--file={dockerfile}", f"--tag={reference}"]
        _buildah(*command, *options, str(context))
        archive.parent.mkdir(parents=True, exist_ok=True)
        unfinished = archive.with_name(f".{archive.name}.unfinished")
        unfinished.unlink(missing_ok=True)
        _buildah("push", "--disable-compression", reference, f"oci-archive:{unfinished}:{reference}")
        unfinished.replace(archive)


def has_image(reference: str) -> bool:
    """Whether buildah's storage holds an image; it may have been emptied since."""
    command = [*_command(), "inspect", "--type=image", reference]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def _buildah(*arguments: str) -> None:
    log = cache_root() / "build-logs" / "buildah.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as output:
        result = subprocess.run(
            [*_command(), *arguments], stdout=output, stderr=subprocess.STDOUT, check=False
        )
    if result.returncode != 0:
        raise TestclusterError(f"buildah {arguments[0]} failed:\n{log_tail(log, 30)}")


def _command() -> list[str]:
    storage = cache_root() / "buildah"
    # overlay shares layers; a machine that cannot stack it (a container, say) can choose vfs.
    driver = os.environ.get("DATAKEYS_STORAGE_DRIVER", "overlay")
    return [
        "buildah",
        f"--root={storage / driver / 'root'}",
        f"--runroot={storage / driver / 'run'}",
        f"--storage-driver={driver}",
    ]


def _host_pip_settings(folder: Path) -> list[str]:
    """Options that lend this machine's pip settings and authorities to the build.

    They are mounted for the build's own commands, so no image and no Dockerfile ever holds them.
    """
    settings = _read_pip_settings()
    options = []
    authorities = settings.pop("cert", "") or os.environ.get("SSL_CERT_FILE", "")
    if authorities and Path(authorities).is_file():
        settings["cert"] = _CA_IN_BUILD
        options.append(f"--volume={authorities}:{_CA_IN_BUILD}:ro")
    if settings:
        configuration = configparser.ConfigParser(interpolation=None)
        configuration["global"] = settings
        file = folder / "pip.conf"
        with file.open("w") as opened:
            configuration.write(opened)
        options.append(f"--volume={file}:/etc/pip.conf:ro")
    return options


def _read_pip_settings() -> dict[str, str]:
    configuration = configparser.ConfigParser(interpolation=None)
    files = [Path("/etc/pip.conf"), Path.home() / ".config/pip/pip.conf", Path.home() / ".pip/pip.conf"]
    configuration.read([*files, os.environ.get("PIP_CONFIG_FILE", "/nonexistent")])
    found = dict(configuration["global"]) if configuration.has_section("global") else {}
    for name in (*_PIP_SETTINGS, "cert"):
        variable = "PIP_DEFAULT_TIMEOUT" if name == "timeout" else f"PIP_{name.upper().replace('-', '_')}"
        if value := os.environ.get(variable):
            found[name] = value
    return {name: found[name] for name in (*_PIP_SETTINGS, "cert") if name in found}


@contextmanager
def _storage_lock() -> Iterator[None]:
    cache_root().mkdir(parents=True, exist_ok=True)
    with (cache_root() / "images.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
