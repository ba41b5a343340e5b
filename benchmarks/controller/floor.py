"""The floor: a loop that only makes the Secret and patches the status, 32 in flight, of requests that exist.

It decides nothing, asks nobody for a data key, watches nothing. KUBECONFIG says where.
"""

import asyncio
import base64
import os
from pathlib import Path

from bench_api import IN_FLIGHT, MERGE_PATCH, REQUESTS, SECRETS, BenchApi, in_parallel

BLOB = base64.b64encode(bytes(200)).decode()
MATERIAL = "ab" * 32
ARN = "arn:k8s:kms:cluster-1:bench:key/0f4c4a3e-0000-4000-8000-000000000001"


async def run() -> None:
    async with BenchApi(Path(os.environ["KUBECONFIG"])) as api:
        found = (await api.call("GET", REQUESTS))["items"]

        async def issue(number: int) -> None:
            metadata = found[number]["metadata"]
            owner = {
                "apiVersion": "datakeys.dev/v1alpha1",
                "kind": "DataKeyRequest",
                "name": metadata["name"],
                "uid": metadata["uid"],
                "controller": True,
            }
            secret = {
                "metadata": {"name": metadata["name"], "ownerReferences": [owner]},
                "type": "datakeys.dev/encrypted-data-key",
                "immutable": True,
                "data": {"ciphertextBlob": BLOB, "keyId": base64.b64encode(ARN.encode()).decode()},
            }
            await api.read("POST", SECRETS, secret)
            condition = {
                "type": "Ready",
                "status": "True",
                "reason": "Issued",
                "message": "",
                "observedGeneration": 1,
                "lastTransitionTime": "2026-01-01T00:00:00Z",
            }
            status = {
                "version": 1,
                "ciphertextBlob": BLOB,
                "keyId": ARN,
                "keyMaterialId": MATERIAL,
                "secretRef": {"name": metadata["name"]},
                "observedGeneration": 1,
                "conditions": [condition],
            }
            body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": status}
            await api.read("PATCH", f"{REQUESTS}/{metadata['name']}/status", body, MERGE_PATCH)

        await in_parallel(issue, range(len(found)), IN_FLIGHT)
        await asyncio.Event().wait()  # so that its memory and CPU time can be read


asyncio.run(run())
