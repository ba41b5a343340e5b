"""What the measurements of the controller share: a quick client of the API server, and its own counters."""

import asyncio
import base64
import json
import os
import re
import ssl
import tempfile
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import aiohttp
import yaml

#: One for each run; the contenders get it by this variable.
NAMESPACE = os.environ.setdefault("BENCH_NAMESPACE", f"bench-{os.getpid()}")
KEY = "main"
REQUESTS = f"/apis/datakeys.dev/v1alpha1/namespaces/{NAMESPACE}/datakeyrequests"
KEYS = f"/apis/datakeys.dev/v1alpha1/namespaces/{NAMESPACE}/kmskeys"
SECRETS = f"/api/v1/namespaces/{NAMESPACE}/secrets"
MERGE_PATCH = "application/merge-patch+json"
IN_FLIGHT = 32
_SAMPLE = re.compile(r"^apiserver_request_total\{(.*)\} (\S+)$", re.MULTILINE)
_LABEL = re.compile(r'(\w+)="([^"]*)"')


class BenchApi:
    """One session with the API server, with whatever credentials a kubeconfig has."""

    def __init__(self, kubeconfig: Path) -> None:
        config = yaml.safe_load(kubeconfig.read_text())
        cluster, user = config["clusters"][0]["cluster"], config["users"][0]["user"]
        self.server = cluster["server"]
        self._tls = ssl.create_default_context(cadata=_read(cluster, "certificate-authority"))
        self._headers = {"Authorization": f"Bearer {user['token']}"} if "token" in user else {}
        if not self._headers:
            with tempfile.NamedTemporaryFile("w", suffix=".pem") as file:
                file.write(_read(user, "client-certificate") + _read(user, "client-key"))
                file.flush()
                self._tls.load_cert_chain(file.name)

    async def __aenter__(self) -> Self:
        connector, timeout = aiohttp.TCPConnector(limit=0, ssl=self._tls), aiohttp.ClientTimeout(total=None)
        self._session = aiohttp.ClientSession(connector=connector, headers=self._headers, timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def call(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> dict[str, Any]:
        raw = await self.read(method, path, body, content_type)
        return dict(json.loads(raw))

    async def read(
        self,
        method: str,
        path: str,
        body: Mapping[str, Any] | None = None,
        content_type: str = "application/json",
    ) -> bytes:
        data = None if body is None else json.dumps(body).encode()
        headers = {"Content-Type": content_type}
        async with self._session.request(method, self.server + path, data=data, headers=headers) as answer:
            raw = await answer.read()
            if answer.status >= 300:
                raise SystemExit(f"{method} {path}: HTTP {answer.status}: {raw[:500]!r}")
            return raw

    async def follow(self, path: str, take: Callable[[str, dict[str, Any]], None]) -> None:
        """Tell every change of a collection from now on, until cancelled."""
        version = (await self.call("GET", f"{path}?limit=1"))["metadata"]["resourceVersion"]
        while True:
            url = f"{self.server}{path}?watch=1&allowWatchBookmarks=1&resourceVersion={version}"
            async with self._session.get(url) as answer:
                if answer.status >= 300:  # a watch cache that isn't ready yet
                    await asyncio.sleep(0.5)
                    continue
                rest = b""
                async for chunk in answer.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        event = json.loads(line)
                        if event["type"] == "ERROR":
                            raise SystemExit(f"{path}: the watch has broken off: {event['object']}")
                        version = event["object"]["metadata"]["resourceVersion"]
                        take(event["type"], event["object"])

    async def count_calls(self) -> Counter[str]:
        """Return how many calls the API server has answered, by verb and kind."""
        text = (await self.read("GET", "/metrics")).decode()
        counts: Counter[str] = Counter()
        for sample in _SAMPLE.finditer(text):
            labels = dict(_LABEL.findall(sample[1]))
            kind = "/".join(filter(None, (labels["resource"], labels.get("subresource"))))
            counts[f"{labels['verb']} {kind}"] += int(float(sample[2]))
        return counts


async def in_parallel(work: Callable[[int], Awaitable[object]], numbers: Iterable[int], width: int) -> None:
    """Do the same work for many numbers, ``width`` at a time."""
    left = iter(numbers)

    async def one() -> None:
        for number in left:
            await work(number)

    async with asyncio.TaskGroup() as group:
        for _ in range(width):
            group.create_task(one())


def build_request(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "datakeys.dev/v1alpha1",
        "kind": "DataKeyRequest",
        "metadata": {"name": build_name(number)},
        "spec": {
            "keyRef": {"name": KEY},
            "keySpec": "AES_256",
            "encryptionContext": {"purpose": "benchmark", "tenant": f"tenant-{number}"},
            "serviceAccountName": "app",
        },
    }


def build_name(number: int) -> str:
    return f"r{number:06d}"


def read_cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far in seconds, to the nanosecond (clock_getcpuclockid(3))."""
    return time.clock_gettime((~pid << 3) | 2)


def read_memory(pid: int) -> dict[str, float]:
    """Return the resident memory of a process in MB: now, and at its peak."""
    text = Path(f"/proc/{pid}/status").read_text()
    found = dict(re.findall(r"^(VmRSS|VmHWM):\s+(\d+) kB$", text, re.MULTILINE))
    return {"rss": int(found["VmRSS"]) / 1024, "peak": int(found["VmHWM"]) / 1024}


async def until(check: Callable[[], bool], what: str, seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not check():
        if time.monotonic() > deadline:
            raise SystemExit(f"{what}: not after {seconds:.0f} s")
        await asyncio.sleep(0.05)


def _read(part: Mapping[str, str], name: str) -> str:
    if f"{name}-data" in part:
        return base64.b64decode(part[f"{name}-data"]).decode()
    return Path(part[name]).read_text()
