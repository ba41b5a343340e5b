"""Builds ``kubectl kms`` as one file, and what krew needs to install it: ``make plugin``.

The file is a zip archive with a shebang: the rooms that the plugin may import and the pure Python part of
PyYAML, with its licence. The same source gives the same bytes.
"""

import argparse
import gzip
import hashlib
import io
import stat
import tarfile
import tomllib
import zipfile
from collections.abc import Iterator
from importlib.metadata import files
from pathlib import Path
from string import Template
from typing import Final

import yaml

ROOT: Final = Path(__file__).resolve().parent.parent
PROGRAM: Final = "kubectl-kms"
#: Not kubectl-…: kubectl would take it for a plugin.
ARCHIVE: Final = "kms.tar.gz"
#: What the plugin imports; nothing of another process but the webhook's pure part.
PARTS: Final = ("__init__.py", "contract", "kubectl", "webhook/__init__.py", "webhook/patches")
_SHEBANG: Final = b"#!/usr/bin/env python3\n"
_MAIN: Final = b"import sys\n\nfrom datakeys.kubectl.main import main\n\nsys.exit(main())\n"
#: The oldest time that a zip archive can hold.
_TIME: Final = (1980, 1, 1, 0, 0, 0)


def build_program() -> bytes:
    """Return the single file."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in sorted(_collect()):
            archive.writestr(zipfile.ZipInfo(name, _TIME), content, zipfile.ZIP_DEFLATED)
    return _SHEBANG + buffer.getvalue()


def build_archive(program: bytes) -> bytes:
    """Return the archive that krew unpacks: the program and the licence."""
    buffer = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=buffer, mode="wb", mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w") as archive,
    ):
        for name, content, mode in (
            (PROGRAM, program, 0o755),
            ("LICENSE", (ROOT / "LICENSE").read_bytes(), 0o644),
        ):
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            archive.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def build_manifest(archive: bytes, uri: str) -> str:
    """Return krew's manifest for an archive that will be found at ``uri``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    template = Template((ROOT / "hack" / "krew" / "kms.yaml").read_text())
    return template.substitute(
        version=f"v{project['version']}", uri=uri, sha256=hashlib.sha256(archive).hexdigest()
    )


def main() -> None:
    """Write the program, the archive and the manifest to a folder."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--uri", default=f"https://example.com/{ARCHIVE}", help="where it is published")
    arguments = parser.parse_args()
    arguments.folder.mkdir(parents=True, exist_ok=True)
    program = build_program()
    archive = build_archive(program)
    path = arguments.folder / PROGRAM
    path.write_bytes(program)
    path.chmod(path.stat().st_mode | stat.S_IXUSR | stat.S_IXGRP | stat.S_IXOTH)
    (arguments.folder / ARCHIVE).write_bytes(archive)
    (arguments.folder / "kms.yaml").write_text(build_manifest(archive, arguments.uri))
    print(f"{path}: {len(program) // 1024} KiB")


def _collect() -> Iterator[tuple[str, bytes]]:
    package = ROOT / "operator" / "datakeys"
    for part in PARTS:
        for path in [package / part] if part.endswith(".py") else (package / part).rglob("*.py"):
            yield f"datakeys/{path.relative_to(package).as_posix()}", path.read_bytes()
    for path in Path(yaml.__file__).parent.glob("*.py"):
        yield f"yaml/{path.name}", path.read_bytes()
    licences = [path for path in files("pyyaml") or () if path.name == "LICENSE"]
    yield "yaml/LICENSE", licences[0].read_binary()
    yield "__main__.py", _MAIN


if __name__ == "__main__":
    main()
