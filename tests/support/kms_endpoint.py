"""A key service in local mode as a process of its own, boto3 against it, and raw requests.

Zone: tests.
"""

import http.client
import json
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import boto3
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials

REGION = "us-east-1"
ACCOUNT = "123456789012"
CREDENTIALS = Credentials("AKIDEXAMPLE", "test-secret")
_ROOT = Path(__file__).parents[2]


@dataclass
class Answer:
    """What came back for a raw request."""

    status: int
    headers: Mapping[str, str]
    raw: bytes
    body: dict[str, Any] = field(default_factory=dict)

    @property
    def code(self) -> str:
        """Return the error's name, or an empty string."""
        return str(self.body.get("__type", ""))

    @property
    def message(self) -> str:
        """Return the error's text, or an empty string."""
        return str(self.body.get("message", ""))


class LocalKms:
    """The process. Use it in a ``with`` block."""

    def __init__(self, *arguments: str) -> None:
        self._arguments = arguments
        self.port = 0

    def command(self) -> list[str]:
        """Return what is run."""
        options = ["--local", "--listen", "127.0.0.1:0", "--region", REGION, "--account", ACCOUNT]
        return [sys.executable, "-m", "datakeys.keyservice", *options, *self._arguments]

    def __enter__(self) -> Self:
        """Start it and wait until it says where it listens."""
        self.process = subprocess.Popen(
            self.command(), cwd=_ROOT / "operator", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert self.process.stdout is not None
        ready = self.process.stdout.readline()
        if not ready:
            self.process.stdout.close()
            raise RuntimeError(f"the local mode ended with {self.process.wait()} before it was ready")
        self.port = int(json.loads(ready)["port"])
        return self

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()

    @property
    def url(self) -> str:
        """Return the address."""
        return f"http://127.0.0.1:{self.port}"

    def client(self, **config: Any) -> Any:
        """Return an ordinary boto3 client."""
        return boto3.client(
            "kms",
            region_name=REGION,
            endpoint_url=self.url,
            aws_access_key_id=CREDENTIALS.access_key,
            aws_secret_access_key=CREDENTIALS.secret_key,
            config=Config(retries={"max_attempts": 1}, proxies={}, read_timeout=60, **config),
        )

    def connect(self) -> "RawConnection":
        """Return a connection for raw requests."""
        return RawConnection(self.port)


class RawConnection:
    """One connection of the standard library's client; requests are signed, nothing is checked."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)

    def post(self, operation: str, body: Any) -> Answer:
        """Send a body (JSON, or bytes as they are) to an operation."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self.send("POST", "/", raw, self.sign(raw, {"X-Amz-Target": f"TrentService.{operation}"}))

    def sign(self, raw: bytes, headers: Mapping[str, str]) -> dict[str, str]:
        """Return the headers of a signed request."""
        content = {"Content-Type": "application/x-amz-json-1.1", **headers}
        request = AWSRequest("POST", f"http://127.0.0.1:{self._port}/", headers=content, data=raw)
        SigV4Auth(CREDENTIALS, "kms", REGION).add_auth(request)
        return dict(request.headers.items())

    def send(self, method: str, path: str, raw: bytes, headers: Mapping[str, str]) -> Answer:
        """Send a request as it is; connects again if the server closed the connection after an answer."""
        self._connection.request(method, path, raw, dict(headers))
        response = self._connection.getresponse()
        content = response.read()
        try:
            parsed = json.loads(content) if content else {}
        except ValueError:
            parsed = {}
        return Answer(response.status, dict(response.headers), content, parsed)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()
