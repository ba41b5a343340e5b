"""Asks for a rotation and follows it."""

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from typing import Final

from datakeys.contract.key_types import KeyState
from datakeys.kubectl import paths
from datakeys.kubectl.answers import Json, UserError, name_of, namespace_of
from datakeys.kubectl.cluster import Cluster
from datakeys.kubectl.key_lookup import fetch_key
from datakeys.kubectl.key_names import status_of
from datakeys.kubectl.output import Console
from datakeys.kubectl.rotate.plan import (
    build_rotation_patch,
    build_rotation_token,
    build_steering_patch,
    is_re_encrypting,
)
from datakeys.kubectl.rotate.progress import Progress, describe
from datakeys.kubectl.rotate.stages import Asked, Stage, Step, decide_stage

#: The API server ends a watch by itself; the client looks again then.
_WATCH_SECONDS: Final = 300
_AGAIN_SECONDS: Final = 2


def run_rotate(arguments: argparse.Namespace, cluster: Cluster, console: Console) -> int:
    """Rotate a key, or steer its re-encryption; the status is 1 if the rotation failed.

    Raises:
        UserError: The options don't fit together, or the key re-encrypts nothing.
        ClusterError: There is no such key, the patch is refused, or there is no answer.
    """
    steering = arguments.pause or arguments.resume or arguments.status
    if steering and arguments.re_encrypt:
        raise UserError("--re-encrypt begins something new: give it without --pause, --resume and --status")
    key = fetch_key(cluster, arguments.key, arguments.namespace).key
    token = None if steering else build_rotation_token(datetime.now(UTC))
    former = status_of(key).get("currentKeyMaterialId")
    key = _change(arguments, cluster, key, token)
    decide = partial(decide_stage, asked=Asked(token, former, int(key["metadata"].get("generation") or 0)))

    quiet = arguments.output == "json"
    stage = (
        _follow(cluster, key, decide, None if quiet else Progress(console)) if arguments.wait else decide(key)
    )
    if quiet:
        where = {"namespace": namespace_of(key), "name": name_of(key)}
        console.document("Rotation", {"key": where, "rotateOnDemand": token, **stage.to_json()})
    elif not arguments.wait:
        _tell(arguments, key, stage, console)
    return 1 if stage.step is Step.FAILED else 0


def _change(arguments: argparse.Namespace, cluster: Cluster, key: Json, token: str | None) -> Json:
    """Patch the key as the arguments say, and return it as it is then."""
    if arguments.status:
        return key
    if token is not None:
        patch = build_rotation_patch(token, re_encrypt=arguments.re_encrypt)
    elif is_re_encrypting(key):
        patch = build_steering_patch(paused=arguments.pause)
    else:
        begin = f"kubectl kms rotate {arguments.key} --re-encrypt"
        raise UserError(f"KmsKey {name_of(key)} re-encrypts nothing: begin with `{begin}`")
    return cluster.patch(paths.KEYS, namespace_of(key), name_of(key), patch)


def _follow(cluster: Cluster, key: Json, decide: Callable[[Json], Stage], progress: Progress | None) -> Stage:
    """Show how it goes on until it is done; Ctrl-C ends the showing only."""
    stage = decide(key)
    try:
        for seen in _watch(cluster, key):
            stage = decide(seen)
            if progress:
                progress.show(stage)
            if stage.is_final:
                break
    except KeyboardInterrupt:
        if progress:
            progress.close()
        again = f"kubectl kms rotate {name_of(key)} -n {namespace_of(key)}"
        sys.stderr.write(
            f"Not stopped: it goes on in the cluster. `{again} --status --wait` shows it again, "
            f"`{again} --pause` pauses the re-encryption.\n"
        )
        raise
    if progress:
        progress.close()
    return stage


def _watch(cluster: Cluster, key: Json) -> Iterator[Json]:
    """Yield a key as it is now and each time that it changes, for ever.

    Raises:
        ClusterError: The key is gone, or there is no answer.
    """
    namespace, name = namespace_of(key), name_of(key)
    while True:
        seen = cluster.get(paths.build_path(paths.DATAKEYS, paths.KEYS, namespace, name))
        yield seen
        path = paths.build_path(
            paths.DATAKEYS,
            paths.KEYS,
            namespace,
            watch="true",
            fieldSelector=f"metadata.name={name}",
            resourceVersion=str(seen["metadata"]["resourceVersion"]),
            timeoutSeconds=str(_WATCH_SECONDS),
        )
        with cluster.watching(path) as events:
            for event in events:
                if event.get("type") != "MODIFIED":
                    break
                yield event["object"]
        time.sleep(_AGAIN_SECONDS)


def _tell(arguments: argparse.Namespace, key: Json, stage: Stage, console: Console) -> None:
    name = name_of(key)
    if arguments.status:
        console.line(f"KmsKey {name}: {describe(stage)}")
    elif arguments.pause or arguments.resume:
        console.line(f"KmsKey {name}: re-encryption {'paused' if arguments.pause else 'resumed'}")
    else:
        follow = f"kubectl kms rotate {name} -n {namespace_of(key)} --status --wait"
        console.line(f"KmsKey {name}: rotation asked for; `{follow}` shows how it goes on")
        state = status_of(key).get("keyState")
        if state and state != KeyState.ENABLED:
            console.line(f"It is {state}, and is rotated once it is {KeyState.ENABLED}.")
