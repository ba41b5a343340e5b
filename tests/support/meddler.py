"""Another writer on the objects of a namespace: every change of a request is followed by one of its own.

Zone: tests.
"""

import itertools
from collections.abc import Callable
from contextlib import closing
from functools import partial
from typing import Any, Final

from kubernetes import client

from background import Background
from custom_objects import REQUESTS, Json, Objects
from datakeys.contract.identity import GROUP, VERSION
from steady_load import UNREACHABLE

_CALL_SECONDS: Final = 5.0


class Meddler(Background):
    """Patches what the controller works on, as fast as it sees it, without looking at versions.

    Attributes:
        patches: How many were taken.
    """

    def __init__(self, objects: Objects) -> None:
        super().__init__(
            *(partial(self._try, work) for work in (self._meddle_at_once, self._meddle_with_all))
        )
        self.patches = 0
        self._objects = objects
        self._numbers = itertools.count()

    def _try(self, work: Callable[[], None]) -> None:
        try:
            work()
        except UNREACHABLE:
            self.stopped.wait(0.1)

    def _meddle_at_once(self) -> None:
        """Label requests as soon as they are made: while the controller is at work on them."""
        watch: Any = client.CustomObjectsApi(self._objects.api)
        # Lines of JSON aren't parsed: the name is all that matters, and time is short.
        answer = watch.list_namespaced_custom_object(
            GROUP,
            VERSION,
            self._objects.namespace,
            REQUESTS,
            watch=True,
            timeout_seconds=2,
            _request_timeout=_CALL_SECONDS,
            _preload_content=False,
        )
        with closing(answer):
            for line in answer:
                if line.startswith(b'{"type":"ADDED"'):
                    self._label(line.partition(b'"name":"')[2].partition(b'"')[0].decode())

    def _meddle_with_all(self) -> None:
        """Annotate each request, take its conditions away, and label its Secret."""
        for item in self._objects.list(REQUESTS):
            name = item["metadata"]["name"]
            self._label(name)
            self._patch_status(name, {"conditions": [], "observedGeneration": 0})
            self._label_secret(name)
            if self.stopped.wait(0.02):
                return

    def _label(self, name: str) -> None:
        mark = str(next(self._numbers))
        metadata = {"labels": {"meddled.example/number": mark}, "annotations": {"meddled.example/at": mark}}
        self._objects.patch(REQUESTS, name, {"metadata": metadata})
        self.patches += 1

    def _patch_status(self, name: str, status: Json) -> None:
        client.CustomObjectsApi(self._objects.api).patch_namespaced_custom_object_status(
            GROUP,
            VERSION,
            self._objects.namespace,
            REQUESTS,
            name,
            {"status": status},
            _content_type="application/merge-patch+json",
        )
        self.patches += 1

    def _label_secret(self, name: str) -> None:
        body: Any = {"metadata": {"labels": {"meddled.example/number": str(next(self._numbers))}}}
        client.CoreV1Api(self._objects.api).patch_namespaced_secret(name, self._objects.namespace, body)
        self.patches += 1
