"""The command line. Zone: no I/O."""

import argparse
from typing import Any, Final

from datakeys.kubectl.answers import UserError

PROGRAM: Final = "kubectl kms"
_EXITS: Final = """\
exit status:
  0  done, or the answer is yes
  1  the answer is no: something keeps the pod from its key, a manifest is refused, a rotation has failed
  2  wrong usage
  3  no answer: no such object, not allowed, or the API server can't be reached
  130  interrupted
"""
_KEY_HELP: Final = "a KmsKey by its name, key id, key ARN, alias (alias/NAME) or alias ARN"
_DEFAULTS: Final[dict[str, Any]] = {
    "namespace": None,
    "context": None,
    "kubeconfig": None,
    "output": "table",
    "impersonate": None,
    "impersonate_group": [],
    "all_namespaces": False,
}


def parse_arguments(words: list[str]) -> argparse.Namespace:
    """Parse the words after the program's name.

    Raises:
        SystemExit: They are wrong (status 2), or help was asked for (status 0).
    """
    arguments = build_parser().parse_args(words)
    for name, value in _DEFAULTS.items():
        if not hasattr(arguments, name):
            setattr(arguments, name, value)
    return arguments


def build_kubectl_flags(arguments: argparse.Namespace) -> tuple[str, ...]:
    """Return the flags that every call of kubectl gets."""
    given = [
        ("--context", arguments.context),
        ("--kubeconfig", arguments.kubeconfig),
        ("--as", arguments.impersonate),
        *(("--as-group", group) for group in arguments.impersonate_group),
    ]
    return tuple(f"{flag}={value}" for flag, value in given if value)


def parse_target(text: str, name: str | None, known: dict[str, str]) -> tuple[str, str]:
    """Return kind and name of ``KIND NAME`` or ``KIND/NAME``.

    Args:
        text: What stands in the place of the kind.
        name: What stands in the place of the name, if anything.
        known: The kinds by the spellings that are taken, in lower case.

    Raises:
        UserError: It is neither, or the kind isn't known.
    """
    kind, slash, rest = text.partition("/")
    if bool(slash) == (name is not None):
        raise UserError("give KIND NAME or KIND/NAME, for example: explain pod my-pod")
    if kind.lower() not in known:
        raise UserError(f"{kind!r} can't be explained: use {', '.join(sorted(set(known.values())))}")
    return known[kind.lower()], name or rest


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the whole command line."""
    common = _build_common()
    parser = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Data keys and KMS keys of a cluster: what is there, who may use it, and what is wrong.",
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        parents=[common],
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str, example: str) -> argparse.ArgumentParser:
        return commands.add_parser(
            name,
            help=text,
            description=text[0].upper() + text[1:] + ".",
            epilog=f"example:\n  {PROGRAM} {example}\n\n{_EXITS}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            parents=[common],
        )

    explain = command(
        "explain", "why a pod has its data keys, or why not", "explain pod orders-6d5f7c9b8-x2x4z -n shop"
    )
    explain.add_argument("kind", help="pod, request, deployment, statefulset, daemonset, job or cronjob")
    explain.add_argument("name", nargs="?", help="its name")

    who = command("who-can", "who may use a KMS key, and why", "who-can decrypt orders -n shop")
    who.add_argument("operation", help="decrypt, encrypt, generate, or the name of a KMS operation")
    who.add_argument("key", help=_KEY_HELP)

    inject = command(
        "inject", "what the webhook would make of a manifest, as a diff", "inject -f deployment.yaml -n shop"
    )
    _add_inject_options(inject)

    rotate = command(
        "rotate", "rotate a KMS key now, and re-encrypt its data keys", "rotate orders --re-encrypt --wait"
    )
    _add_rotate_options(rotate)

    for name, text in (("keys", "list the KMS keys"), ("requests", "list the DataKeyRequests")):
        lister = command(name, text, f"{name} -A")
        lister.add_argument("-A", "--all-namespaces", action="store_true", default=argparse.SUPPRESS)
    return parser


def _build_common() -> argparse.ArgumentParser:
    """Return the flags that may stand before and after the command; absent ones leave no trace."""
    common = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    group = common.add_argument_group("as in kubectl")
    group.add_argument("-n", "--namespace", help="the namespace; default: the context's")
    group.add_argument("--context", help="the context of the kubeconfig")
    group.add_argument("--kubeconfig", help="path of the kubeconfig")
    group.add_argument("--as", dest="impersonate", metavar="USER", help="act as another user")
    group.add_argument("--as-group", dest="impersonate_group", metavar="GROUP", action="append")
    group.add_argument("-o", "--output", choices=("table", "json"), help="for people or for machines")
    return common


def _add_inject_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "-f", "--filename", required=True, metavar="FILE", help="a manifest, - for standard input"
    )
    parser.add_argument(
        "--offline",
        action="store_true",
        help="ask no cluster: DataKeyRequests are taken to have their own Secret",
    )
    parser.add_argument("--sidecar-image", help="default: the webhook's, else datakeys-sidecar")
    parser.add_argument("--keyservice-url", help="default: the webhook's")
    parser.add_argument("--cluster-name", help="default: the webhook's")


def _add_rotate_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("key", help=_KEY_HELP)
    parser.add_argument(
        "--re-encrypt",
        action="store_true",
        help="then encrypt the data keys of its requests under the new material",
    )
    parser.add_argument("--wait", action="store_true", help="show the progress until it is done")
    steer = parser.add_mutually_exclusive_group()
    steer.add_argument("--pause", action="store_true", help="pause a running re-encryption; rotates nothing")
    steer.add_argument(
        "--status",
        action="store_true",
        help="show how far it is, with --wait until it is done; rotates nothing",
    )
    steer.add_argument("--resume", action="store_true", help="let a paused one go on; rotates nothing")
