"""The entry: parse, run one command, turn errors into one line with the next step."""

import os
import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from datakeys.kubectl.answers import (
    REASON_FORBIDDEN,
    REASON_NOT_FOUND,
    REASON_UNAUTHORIZED,
    ClusterError,
    UserError,
)
from datakeys.kubectl.arguments import PROGRAM, build_kubectl_flags, parse_arguments
from datakeys.kubectl.cluster import Cluster
from datakeys.kubectl.explain.command import run_explain
from datakeys.kubectl.inject.command import run_inject
from datakeys.kubectl.listing.command import run_keys, run_requests
from datakeys.kubectl.output import Console, clean
from datakeys.kubectl.rotate.command import run_rotate
from datakeys.kubectl.who_can.command import run_who_can

STATUS_USAGE: Final = 2
STATUS_NO_ANSWER: Final = 3
STATUS_INTERRUPTED: Final = 130

Command = Callable[..., int]

_COMMANDS: Final[Mapping[str, Command]] = MappingProxyType(
    {
        "explain": run_explain,
        "inject": run_inject,
        "keys": run_keys,
        "requests": run_requests,
        "rotate": run_rotate,
        "who-can": run_who_can,
    }
)
_NEXT_STEPS: Final = {
    REASON_FORBIDDEN: "ask an administrator of the namespace for the role view, or try another --context",
    REASON_NOT_FOUND: "look at the name and at -n; `kubectl get crd` tells whether the operator is installed",
    REASON_UNAUTHORIZED: "log in again; `kubectl auth whoami` tells who you are",
    "Conflict": "try again",
}
_DEFAULT_STEP: Final = "see whether `kubectl get namespaces` works"


def main(words: list[str] | None = None) -> int:
    """Run a command and return the exit status."""
    arguments = parse_arguments(sys.argv[1:] if words is None else words)
    console = Console.of(sys.stdout, os.environ)
    cluster = Cluster("kubectl", build_kubectl_flags(arguments))
    try:
        if arguments.namespace is None and not getattr(arguments, "offline", False):
            arguments.namespace = cluster.default_namespace()
        arguments.scope = None if arguments.all_namespaces else arguments.namespace
        status = _COMMANDS[arguments.command](arguments, cluster, console)
        console.flush()
    except UserError as error:
        return _fail(error.message, STATUS_USAGE)
    except ClusterError as error:
        return _fail(f"{error.message}; {_NEXT_STEPS.get(error.reason, _DEFAULT_STEP)}", STATUS_NO_ANSWER)
    except KeyboardInterrupt:
        return STATUS_INTERRUPTED
    except BrokenPipeError:
        console.flush()
        return STATUS_NO_ANSWER
    return status


def _fail(message: str, status: int) -> int:
    sys.stderr.write(f"{PROGRAM}: {clean(message)}\n")
    return status
