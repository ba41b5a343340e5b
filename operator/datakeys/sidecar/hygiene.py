"""What keeps plaintext out of dumps and off disks. Zone: no secrets pass through here.

The resident process never holds plaintext: the child writes it straight into a memory-backed file whose
descriptor it inherits, and delivery by socket maps that file while the kernel copies from it. So only the
short-lived ones, the child and the cipher process, need memory locks and a ban on ptrace; they can pay for
``ctypes`` (0.7 MiB, which the resident process saves).
"""

import os
import resource

_PR_SET_DUMPABLE = 4
#: MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT: only pages that are used count against the memory limit.
_MCL_USED_PAGES = 1 | 2 | 4


def forbid_core_dumps() -> None:
    """Forbid core dumps of this process and its children, and make new files private.

    The limit is 1 byte: the kernel takes no notice of 0 when it pipes dumps to a program, as it does on most
    distributions; 1 is its own sign for "never". Source: core(5); fs/coredump.c.
    """
    resource.setrlimit(resource.RLIMIT_CORE, (1, 1))
    os.umask(0o077)


def lock_down_child() -> None:
    """Make this process undumpable and untraceable, and lock its memory where the limit allows it."""
    import ctypes  # noqa: PLC0415 - only the child pays for it

    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_DUMPABLE, 0, 0, 0, 0)
    # Under a finite limit a later allocation would fail instead of the lock.
    if resource.getrlimit(resource.RLIMIT_MEMLOCK)[0] == resource.RLIM_INFINITY:
        libc.mlockall(_MCL_USED_PAGES)
