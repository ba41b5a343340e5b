"""Hostile callers of the real key service: others are answered, memory stays bounded, nothing is told.

Every attack runs beside a pod that decrypts its data key again and again, as its sidecar would.
"""

import base64
import hashlib
import hmac
import json
import resource
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from kubernetes import client

from chart_installation import named
from controller_rig import running_rig
from controller_wire import Wire
from hostile_stage import CONTEXT, NAMESPACE, Stage, many_open_files
from pod_caller import start_pod
from waiting import eventually

#: As many connections as the issue asks for, if this machine lets a process have so many.
CONNECTIONS: Final = 10_000
#: How many of them send a part of a request, of each kind.
SLOW: Final = 400
REFUSED: Final = (400, "UnrecognizedClientException")


@pytest.fixture(scope="module")
def stage(
    control_plane: Path, api_client: client.ApiClient, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Stage]:
    """Run a key service, and make a data key for a pod of the namespace ``shop``."""
    core = client.CoreV1Api(api_client)
    core.create_namespace(named(NAMESPACE))
    try:
        folder = tmp_path_factory.mktemp("rig")
        with many_open_files(), running_rig(control_plane, api_client, folder) as rig:
            process = rig.start_keyservice(DATAKEYS_DRAIN_DELAY_SECONDS="0")
            controller = Wire(rig, NAMESPACE)
            key = controller.call("CreateKey")["KeyMetadata"]["KeyId"]
            members = {"KeyId": key, "KeySpec": "AES_256", "EncryptionContext": CONTEXT}
            made = controller.call("GenerateDataKeyWithoutPlaintext", **members)
            stage = Stage(rig, process, start_pod(rig, NAMESPACE), made["CiphertextBlob"])
            stage.decrypt()
            yield stage
            stage.check_unharmed()
            assert process.stop() == 0
    finally:
        core.delete_namespace(NAMESPACE)


def sign(claims: dict[str, Any], key: Any, **header: str) -> str:
    return jwt.encode(claims, key, algorithm="RS256", headers=header)


def encode(part: bytes) -> str:
    return base64.urlsafe_b64encode(part).decode().rstrip("=")


def test_bad_tokens_get_one_answer_whatever_is_bad(stage: Stage, api_client: client.ApiClient) -> None:
    """Real tokens of the cluster with one thing wrong, and forged ones; not a byte tells them apart."""
    good = stage.pod.token
    head, payload, signature = good.split(".")
    header = jwt.get_unverified_header(good)
    claims = jwt.decode(good, options={"verify_signature": False})
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    answer: Any = api_client.call_api(
        "GET", f"{api_client.configuration.host}/openid/v1/jwks", {"Accept": "application/jwk-set+json"}, None
    )
    public = jwt.PyJWK(json.loads(answer.read())["keys"][0]).key
    hmac_head = encode(json.dumps({"alg": "HS256", "kid": header["kid"]}).encode())
    pem = public.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    hmac_tag = encode(hmac.digest(pem, f"{hmac_head}.{payload}".encode(), hashlib.sha256))
    none_head = encode(json.dumps({"alg": "none", "kid": header["kid"]}).encode())
    tokens = {
        "wrong audience": stage.rig.token("datakeys-controller", "https://elsewhere.example"),
        "the API server's audience": stage.rig.token("datakeys-controller"),
        "signed by another": sign(claims, own, kid=header["kid"]),
        "unknown key": sign(claims, own, kid="unknown"),
        "other issuer": sign({**claims, "iss": "https://elsewhere.example"}, own, kid=header["kid"]),
        "expired": sign({**claims, "exp": 1}, own, kid=header["kid"]),
        "not yet valid": sign({**claims, "nbf": 2**40}, own, kid=header["kid"]),
        "alg none": f"{none_head}.{payload}.{encode(b'x')}",
        "alg none, unsigned": f"{none_head}.{payload}.",
        "HS256 with the public key": f"{hmac_head}.{payload}.{hmac_tag}",
        "changed claims": f"{head}.{encode(json.dumps({**claims, 'sub': 'x'}).encode())}.{signature}",
        "garbage": "x.y.z",
        "long": "a" * 12_000,
    }
    answers = {name: stage.post(token) for name, token in tokens.items()}
    assert {status for status, _ in answers.values()} == {400}, answers
    assert {json.loads(body)["__type"] for _, body in answers.values()} == {"UnrecognizedClientException"}
    assert len({body for _, body in answers.values()}) == 1
    assert stage.post("a" * 20_000)[0] == 431
    stage.decrypt()
    stage.check_unharmed()


def test_token_of_a_deleted_pod_opens_nothing(stage: Stage, api_client: client.ApiClient) -> None:
    """As soon as the verdict on it has to be asked again, which is after seconds."""
    pod = start_pod(stage.rig, NAMESPACE)
    _, body = stage.post(pod.token)
    assert json.loads(body)["__type"] == "ValidationException"
    claims = jwt.decode(pod.token, options={"verify_signature": False})["kubernetes.io"]
    client.CoreV1Api(api_client).delete_namespaced_pod(
        claims["pod"]["name"], NAMESPACE, grace_period_seconds=0
    )

    assert eventually(lambda: REFUSED[1].encode() in stage.post(pod.token)[1])
    stage.decrypt()


def test_flood_of_unknown_keys_makes_nobody_wait(stage: Stage) -> None:
    """Each token names another signing key that the cluster hasn't; good callers are served meanwhile."""
    own = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    claims = jwt.decode(stage.pod.token, options={"verify_signature": False})
    token = sign(claims, own, kid="k")
    _, payload, signature = token.split(".")
    refused = 0

    def attack(worker: int) -> int:
        count = 0
        for number in range(100):
            head = encode(json.dumps({"alg": "RS256", "kid": f"{worker}-{number}"}).encode())
            status, _ = stage.post(f"{head}.{payload}.{signature}")
            count += status == REFUSED[0]
        return count

    with ThreadPoolExecutor(4) as pool:
        running = [pool.submit(attack, worker) for worker in range(4)]
        for _ in range(10):
            stage.decrypt()
        refused = sum(one.result(600) for one in running)
    assert refused == 400
    stage.check_unharmed()


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"[" * 190_000, 400),
        (b'{"a":' * 30_000, 400),
        (b'{"CiphertextBlob":"AA==","CiphertextBlob":"AA=="}', 400),
        (b'{"Limit":' + b"9" * 100_000 + b"}", 400),
        (b"\xff" * 1000, 400),
        (b"x" * 300_000, 413),
    ],
    ids=["open brackets", "deep objects", "twice the same member", "huge number", "no UTF-8", "too long"],
)
def test_hostile_bodies_are_refused(stage: Stage, body: bytes, status: int) -> None:
    """With a good token, so that the body is looked at; never 500."""
    found, text = stage.post(stage.pod.token, body)
    assert found == status, text
    assert json.loads(text)["__type"] != "KMSInternalException"
    stage.decrypt()


def test_pipelined_flood_that_reads_nothing_holds_up_only_itself(stage: Stage) -> None:
    """Thousands of requests on a few connections, whose answers nobody takes."""
    line = (
        "POST / HTTP/1.1\r\nHost: kms\r\nX-Amz-Target: TrentService.Decrypt\r\n"
        f"Authorization: Bearer {stage.pod.token}\r\nContent-Length: 2\r\n\r\n{{}}"
    )
    with ExitStack() as stack:
        for _ in range(8):
            secure = stack.enter_context(stage.connect_securely())
            secure.settimeout(2)
            with suppress(OSError):
                for _ in range(2000):
                    secure.sendall(line.encode())
        for _ in range(5):
            stage.decrypt()
    stage.check_unharmed()


def _record(kind: int, version: bytes, payload: bytes) -> bytes:
    return bytes([kind]) + version + len(payload).to_bytes(2, "big") + payload


def _hello(version: bytes, extensions: bytes = b"") -> bytes:
    body = version + bytes(32) + b"\0" + b"\0\x02\x00\x2f" + b"\x01\0"
    body += len(extensions).to_bytes(2, "big") + extensions
    return _record(22, b"\x03\x01", b"\x01" + len(body).to_bytes(3, "big") + body)


@pytest.mark.parametrize(
    "opening",
    [
        b"GET / HTTP/1.1\r\nHost: kms\r\n\r\n",
        bytes(range(256)) * 64,
        _record(22, b"\x03\x01", b"\x01\xff\xff\xff" + b"x" * 2000),
        _record(23, b"\x03\x03", b"x" * 16_384),
        _record(21, b"\x03\x03", b"\x02\x28"),
        _hello(b"\x03\x00"),
        _hello(b"\x03\x01"),
        _hello(b"\x03\x02"),
        _hello(b"\x03\x03", b"\0\0" + (12_000).to_bytes(2, "big") + b"a" * 12_000),
        _record(22, b"\x03\x01", b"") * 2000,
    ],
    ids=[
        *("plain HTTP", "garbage", "endless hello", "data first", "alert first", "SSL 3.0", "TLS 1.0"),
        *("TLS 1.1", "huge SNI", "empty records"),
    ],
)
def test_malformed_tls_ends_without_a_request(stage: Stage, opening: bytes) -> None:
    """The connection ends, by an alert at most, and is nobody's."""
    with stage.connect() as plain:
        with suppress(OSError):
            plain.sendall(opening)
            plain.shutdown(socket.SHUT_WR)
        raw = b""
        with suppress(OSError):
            while piece := plain.recv(65536):
                raw += piece
    assert raw == b"" or raw[0] == 21
    stage.decrypt()


def hold(stage: Stage, stack: ExitStack, count: int, opening: bytes, *, securely: bool = False) -> int:
    """Open connections and leave them open, the same beginning on each; return how many were accepted."""
    connect: Callable[[], socket.socket] = stage.connect_securely if securely else stage.connect
    accepted = 0
    for _ in range(count):
        with suppress(OSError):
            connection = stack.enter_context(connect())
            accepted += 1
            connection.settimeout(5)
            connection.sendall(opening)
    return accepted


def test_connections_by_the_thousand_leave_room_for_others(stage: Stage) -> None:
    """Silent ones, half handshakes, slow headers, slow bodies; the pod is served between and after them."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    total = CONNECTIONS if hard == resource.RLIM_INFINITY else min(CONNECTIONS, hard - 1000)
    head = b"POST / HTTP/1.1\r\nHost: kms\r\nContent-Length: 190000\r\n\r\n"
    accepted = 0
    with ExitStack() as stack:
        for opening in (head + b"x" * 180_000, head[:20]):
            accepted += hold(stage, stack, SLOW, opening, securely=True)
            stage.decrypt()
        for opening in (b"", b"\x16\x03\x01\x02\x00"):
            accepted += hold(stage, stack, (total - 2 * SLOW) // 2, opening)
            stage.decrypt()
        for _ in range(10):
            stage.decrypt()
        assert accepted > total * 0.9
        stage.check_unharmed()
    stage.decrypt()
