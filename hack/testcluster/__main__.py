"""Command line: `python -m testcluster VERB`, with `hack` on PYTHONPATH."""

import argparse
import sys
from collections.abc import Callable
from pathlib import Path

from testcluster import backend, binaries, debian
from testcluster.progress import TestclusterError, say


def main() -> int:
    """Run one verb; a failed step gives one readable message and exit code 1."""
    arguments = _parser().parse_args()
    run: Callable[[argparse.Namespace], None] = arguments.run
    try:
        run(arguments)
    except TestclusterError as error:
        say(f"error: {error}")
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="testcluster", description=__doc__)
    verbs = parser.add_subparsers(required=True, metavar="VERB")

    def verb(name: str, run: Callable[[argparse.Namespace], None], text: str) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(run=run)
        return added

    def cluster_verb(
        name: str, run: Callable[[argparse.Namespace], None], text: str
    ) -> argparse.ArgumentParser:
        added = verb(name, run, text)
        added.add_argument("--name", default="default", help="name of the cluster (default: %(default)s)")
        return added

    verb("packages", lambda _: debian.install_missing(), "install the Debian packages that are missing")
    verb("build", lambda _: _build(), "build all Go programs into the cache")
    verb("base-image", lambda _: backend.base_image(), "make the Python base image")
    tagged = verb("images", lambda a: backend.build_images(a.tag), "build the project's images")
    tagged.add_argument("--tag", default="dev")

    starting = cluster_verb("up", _up, "start a cluster and print the path of its kubeconfig")
    starting.add_argument(
        "--control-plane-only", action="store_true", help="etcd and kube-apiserver, no pods"
    )
    starting.add_argument("--controller-manager", action="store_true", help="add it to --control-plane-only")
    loading = cluster_verb(
        "load", lambda a: backend.load(a.tag, a.name), "build images and bring them to the node"
    )
    loading.add_argument("--tag", default="dev")
    cluster_verb("down", lambda a: backend.down(a.name), "end a cluster and remove all that it left")
    hurting = cluster_verb(
        "restart", lambda a: backend.restart(a.component, a.name), "kill -9 and start anew"
    )
    hurting.add_argument("--component", required=True)
    cluster_verb(
        "kubeconfig", lambda a: print(backend.path("kubeconfig", a.name)), "print the kubeconfig's path"
    )
    verb("status", lambda _: _status(), "list the clusters and their components")
    locating = cluster_verb("path", lambda a: print(_path(a.what, a.name)), "print where something is kept")
    locating.add_argument("what", choices=["bin", *backend.PATHS])
    return parser


def _build() -> None:
    binaries.ensure()
    say(f"all programs are in {binaries.link_all()}")


def _up(arguments: argparse.Namespace) -> None:
    kubeconfig = backend.up(
        arguments.name,
        control_plane_only=arguments.control_plane_only,
        controller_manager=arguments.controller_manager,
    )
    print(kubeconfig)


def _status() -> None:
    for name, components in backend.status().items():
        print(name)
        for component, alive in components.items():
            print(f"  {component:26} {'running' if alive else 'ENDED'}")


def _path(what: str, name: str) -> Path:
    return binaries.link_all() if what == "bin" else backend.path(what, name)


if __name__ == "__main__":
    sys.exit(main())
