"""The pod's KMS endpoint as processes: boto3 and raw clients, a key service over TLS, ends and restarts."""

import base64
import http.client
import json
import os
import random
import signal
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import boto3
import pytest
from botocore.config import Config

from ports import find_free_port

from .conftest import KEY_ARN, PATIENCE_SECONDS, FakeKeyService, Pod, wait_until

PLAINTEXT = b"a plaintext that no log shows"
BLOB = b"ciphertext of the app"
DECRYPT = json.dumps({"CiphertextBlob": base64.b64encode(BLOB).decode()}).encode()
TARGET = {"X-Amz-Target": "TrentService.Decrypt", "Content-Type": "application/x-amz-json-1.1"}


@dataclass
class Served:
    """A pod whose sidecar serves the endpoint only."""

    pod: Pod
    process: "subprocess.Popen[bytes]"
    environment: dict[str, str]
    port: int

    @property
    def service(self) -> FakeKeyService:
        """Return the key service behind it."""
        return self.pod.service

    def post(
        self, body: bytes = DECRYPT, headers: dict[str, str] | None = None, *, path: str = "/"
    ) -> tuple[http.client.HTTPResponse, Any]:
        """Return the answer for one POST on a connection of its own, and its parsed body."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("POST", path, body, TARGET if headers is None else headers)
            answer = connection.getresponse()
            return answer, json.loads(answer.read())
        finally:
            connection.close()

    def send(self, raw: bytes) -> bytes:
        """Send bytes; return all that comes back until the endpoint ends the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_SECONDS) as client:
            client.sendall(raw)
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65536), b""))

    def boto3(self) -> Any:
        """Return an SDK's client as an app makes it, but without retries."""
        return boto3.client(
            "kms",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            region_name="us-east-1",
            aws_access_key_id="dummy",
            aws_secret_access_key="dummy",
            config=Config(
                retries={"total_max_attempts": 1}, connect_timeout=10, read_timeout=PATIENCE_SECONDS
            ),
        )

    def child(self) -> int:
        """Return the id of the endpoint's process, 0 if there is none now."""
        found = subprocess.run(["pgrep", "-P", str(self.process.pid)], capture_output=True, check=False)
        return int(found.stdout.split()[0]) if found.stdout else 0


@pytest.fixture
def served(pod: Pod) -> Iterator[Served]:
    """Give an endpoint that has reached the key service."""
    port = find_free_port()
    environment = {"DATAKEYS_REQUESTS": "", "DATAKEYS_AWS_ENDPOINT_PORT": str(port)}
    pod.service.plaintexts[BLOB] = PLAINTEXT
    made = Served(pod, pod.run(env=environment), environment, port)
    wait_until(lambda: pod.probe(environment) == 0)
    yield made
    if made.process.poll() is None:
        pod.stop(made.process)


def is_listening(port: int) -> bool:
    """Return whether somebody takes connections on a port of loopback."""
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0


def is_running(pid: int) -> bool:
    """Return whether a process runs; one that nobody waits for counts as ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii") as file:  # noqa: PTH123
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_only_the_pods_own_identity_goes_to_the_key_service(served: Served) -> None:
    """Neither the app's signature nor a header that the key service would believe gets through."""
    forged = {
        "Authorization": "AWS4-HMAC-SHA256 Credential=dummy/20260101/us-east-1/kms/aws4_request",
        "X-Amz-Date": "20260101T000000Z",
        "X-Amz-Security-Token": "forged",
        "X-Datakeys-Namespace": "other",
        "X-Datakeys-Forwarded-For": "system:serviceaccount:other:admin",
        "X-Forwarded-For": "10.0.0.1",
        "Cookie": "forged",
    }
    answer, _ = served.post(headers=TARGET | forged)
    assert answer.status == 200
    (call,) = served.service.calls
    assert call["headers"] == {
        "Host": served.service.url.removeprefix("https://"),
        "Authorization": "Bearer token-of-the-pod",
        "Content-Type": "application/x-amz-json-1.1",
        "X-Amz-Target": "TrentService.Decrypt",
        "Content-Length": str(len(DECRYPT)),
    }
    assert call["path"] == "/"
    assert call["body"] == json.loads(DECRYPT)


def test_status_body_and_request_id_of_the_key_service_come_back(served: Served) -> None:
    """An error of the key service arrives as it was sent, with the id to find it in the audit records."""
    served.service.fail("ThrottlingException", 400)
    answer, body = served.post()
    assert answer.status == 400
    assert body == {"__type": "ThrottlingException", "message": "text of the server"}
    assert answer.headers["x-amzn-RequestId"] == served.service.request_id
    assert answer.headers["Content-Type"] == "application/x-amz-json-1.1"


def test_boto3_works_through_the_endpoint(served: Served) -> None:
    """The SDK with dummy credentials gets plaintext, errors by name, and keeps its connection."""
    client = served.boto3()
    for _ in range(3):
        answer = client.decrypt(CiphertextBlob=BLOB)
        assert answer["Plaintext"] == PLAINTEXT
        assert answer["KeyId"] == KEY_ARN
        assert answer["ResponseMetadata"]["RequestId"] == served.service.request_id
    served.service.fail("DisabledException")
    with pytest.raises(client.exceptions.DisabledException, match="text of the server"):
        client.decrypt(CiphertextBlob=BLOB)
    served.service.scripted.append((200, b'{"Keys": [], "Truncated": false}'))
    assert client.list_keys()["Keys"] == []
    assert len(served.service.connections) == 1


def test_targets_that_are_no_kms_operation_are_not_forwarded(served: Served) -> None:
    """The controller's own operations can't be reached with a pod's token, nor other services or paths."""
    for target in (
        "DatakeysController.WatchKeys",
        "DynamoDB_20120810.GetItem",
        "trentservice.Decrypt",
        "TrentService.",
        "TrentService.Decrypt\tX",
        "TrentService./../x",
        "TrentService." + "A" * 65,
        "",
    ):
        answer, body = served.post(headers={"X-Amz-Target": target})
        assert (answer.status, body["__type"]) == (400, "UnknownOperationException"), target
    answer, body = served.post(path="/other")
    assert (answer.status, body["__type"]) == (400, "UnknownOperationException")
    assert served.service.calls == []


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ("Host: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n", 411),
        ("Host: 127.0.0.1\r\n", 411),
        ("Host: 127.0.0.1\r\nContent-Length: 262145\r\n", 413),
        ("Host: 127.0.0.1\r\nContent-Length: 99999999999999999999\r\n", 413),
        ("Host: rebound.example\r\nContent-Length: 2\r\n", 421),
        ("Content-Length: 2\r\n", 421),
        ("Host: 127.0.0.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n", 400),
        ("Host: 127.0.0.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n", 400),
        ("Host: 127.0.0.1\r\nContent-Length: -1\r\n", 400),
        ("Host: 127.0.0.1\r\nContent-Length : 2\r\n", 400),
        ("Host: 127.0.0.1\r\n folded: 2\r\n", 400),
        ("Host: 127.0.0.1\r\nContent-Length: 2\r\nExpect: a-miracle\r\n", 417),
        ("X: " + "a" * 20000 + "\r\n", 431),
    ],
)
def test_requests_without_a_certain_end_get_an_error_and_the_connection_ends(
    served: Served, fields: str, status: int
) -> None:
    """What follows such a head is never taken for another request."""
    start = "POST / HTTP/1.1\r\nX-Amz-Target: TrentService.Decrypt\r\n"
    raw = f"{start}{fields}\r\n{start}Host: 127.0.0.1\r\nContent-Length: 2\r\n\r\n{{}}"
    head, _, body = served.send(raw.encode()).partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.1 {status} ".encode())
    assert b"Connection: close" in head
    assert json.loads(body)["message"]
    assert served.service.calls == []


def test_garbage_gets_an_error_and_harms_nobody(served: Served) -> None:
    """Bytes that aren't HTTP get 400 or the end of the connection; the next client is served."""
    generator = random.Random(7)  # noqa: S311 - the same bytes each time
    hello = b"\x16\x03\x01\x00\xa5\x01\x00\x00\xa1\x03\x03"
    for raw in (hello, b"\r\n\r\n", b"GET\r\n\r\n", b"\0" * 17000, generator.randbytes(400) + b"\r\n\r\n"):
        answer = served.send(raw)
        assert answer == b"" or answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 431 ")), raw
    assert served.boto3().decrypt(CiphertextBlob=BLOB)["Plaintext"] == PLAINTEXT


def test_a_killed_endpoint_process_is_started_again_and_clients_wait_for_it(served: Served) -> None:
    """The port stays open meanwhile: a request after the kill is answered, not refused."""
    child = served.child()
    os.kill(child, signal.SIGKILL)
    assert served.boto3().decrypt(CiphertextBlob=BLOB)["Plaintext"] == PLAINTEXT
    assert served.child() not in (0, child)
    output = served.pod.stop(served.process)
    (line,) = [json.loads(line) for line in output.splitlines() if "endpoint_ended" in line]
    assert line["code"] == "status-9"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_endpoint_ends_with_the_resident_process(served: Served, number: int) -> None:
    """No process with the pod's token outlives the sidecar, however that one ends; the port is closed."""
    child = served.child()
    assert is_running(child)
    served.process.send_signal(number)
    served.process.wait(PATIENCE_SECONDS)
    wait_until(lambda: not is_running(child))
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", served.port), timeout=PATIENCE_SECONDS)


def test_a_key_service_that_is_down_gives_a_retryable_kms_error(pod: Pod) -> None:
    """From the first moment on, the answer is an error of the operation's list, at once; the probe fails."""
    port = find_free_port()
    environment = {
        "DATAKEYS_REQUESTS": "",
        "DATAKEYS_AWS_ENDPOINT_PORT": str(port),
        "DATAKEYS_KEYSERVICE_URL": f"https://127.0.0.1:{find_free_port()}",
    }
    down = Served(pod, pod.run(env=environment), environment, port)
    wait_until(lambda: is_listening(port))
    client = down.boto3()
    with pytest.raises(client.exceptions.KeyUnavailableException):
        client.decrypt(CiphertextBlob=BLOB)
    with pytest.raises(client.exceptions.KMSInternalException) as caught:
        client.list_keys()
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert pod.probe(environment) == 1
    assert '"code": "KeyServiceUnreachable"' in pod.stop(down.process)


def test_a_rotated_token_is_used_from_the_next_request_on(served: Served) -> None:
    """The kubelet replaces the file; nothing is restarted, and the kept connection carries the new token."""
    served.post()
    (served.pod.root / "token").write_text("token-after-rotation\n")
    served.post()
    assert [call["headers"]["Authorization"] for call in served.service.calls] == [
        "Bearer token-of-the-pod",
        "Bearer token-after-rotation",
    ]


def test_neither_token_nor_plaintext_is_in_the_log(served: Served) -> None:
    """Success, refusal, failure and restart print names and codes only."""
    served.post()
    served.send(PLAINTEXT + b"\r\n\r\n")
    (served.pod.root / "token").write_text("token-with-a\nline break and token-of-the-pod\n")
    answer, body = served.post()
    assert (answer.status, body["__type"]) == (500, "KeyUnavailableException")
    os.kill(served.child(), signal.SIGKILL)
    output = served.pod.stop(served.process)
    assert "endpoint_ready" in output
    assert '"code": "MissingInput"' in output
    for secret in ("token-of", "token-with", PLAINTEXT.decode(), base64.b64encode(PLAINTEXT).decode()):
        assert secret not in output
