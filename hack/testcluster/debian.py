"""The programs that come from Debian rather than from Go modules."""

import shutil
import subprocess

from testcluster.progress import TestclusterError, say, step

# Package -> the program by which its presence is known.
PACKAGES = {
    "buildah": "buildah",
    "busybox-static": "busybox",
    "conntrack": "conntrack",
    "debootstrap": "debootstrap",
    "faketime": "faketime",
    "iproute2": "ip",
    "iptables": "iptables",
    "procps": "sysctl",
    "runc": "runc",
    "util-linux": "nsenter",
}
_SEARCHED = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def missing_packages() -> list[str]:
    """Packages whose program is not found."""
    return [package for package, program in PACKAGES.items() if not shutil.which(program, path=_SEARCHED)]


def install_missing() -> None:
    """Install what is missing with apt-get; package lists are fetched only when the first try fails."""
    missing = missing_packages()
    if not missing:
        say("all Debian packages are there")
        return
    install = ["apt-get", "install", "--yes", "--no-install-recommends", *missing]
    with step(f"installing {' '.join(missing)} with apt-get"):
        if not _succeeds(install):
            _succeeds(["apt-get", "update"])
            if not _succeeds(install):
                raise TestclusterError(f"apt-get could not install {missing}: run it by hand to see why")


def _succeeds(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
