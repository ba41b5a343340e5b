"""A key service over real TLS, and the folders of a pod, for the sidecar's tests."""

import base64
import contextlib
import datetime as dt
import ipaddress
import json
import os
import shutil
import ssl
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from datakeys.contract.encrypted_data_key import EncryptedDataKey
from live_files import read_whole_lines

KEY_ARN = "arn:k8s:kms:test:team:key/1234abcd-12ab-34cd-56ef-1234567890ab"
PROGRAM = Path(__file__).parents[3] / "operator/datakeys/sidecar/__main__.py"
#: For what comes by itself, on the slowest machine.
PATIENCE_SECONDS = 60.0


def make_certificate(folder: Path) -> None:
    """Write ca.crt, tls.crt and tls.key for 127.0.0.1."""
    now = dt.datetime.now(dt.UTC)

    def build(name: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "test CA")]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - dt.timedelta(hours=1))
            .not_valid_after(now + dt.timedelta(hours=1))
        )

    ca_key, key = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
    authority = (
        build("test CA", ca_key)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(ca_key, hashes.SHA256())
    )
    address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
    leaf = (
        build("key service", key)
        .add_extension(x509.SubjectAlternativeName([address]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "ca.crt").write_bytes(authority.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.crt").write_bytes(leaf.public_bytes(serialization.Encoding.PEM))
    (folder / "tls.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


@dataclass
class FakeKeyService:
    """Answers Decrypt as told; keeps what it was asked."""

    url: str = ""
    #: Ciphertext blob -> plaintext.
    plaintexts: dict[bytes, bytes] = field(default_factory=dict)
    #: Answers to give first, in order: (HTTP status, body).
    scripted: list[tuple[int, bytes]] = field(default_factory=list)
    #: Ciphertext blob -> the answer that it always gets.
    refused: dict[bytes, tuple[int, bytes]] = field(default_factory=dict)
    #: What was asked and when (monotonic seconds).
    calls: list[dict[str, Any]] = field(default_factory=list)
    connections: set[tuple[str, int]] = field(default_factory=set)
    request_id: str = "5d8a1f0e-0000-4000-8000-00000000cafe"
    _free: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        """Answer at once."""
        self._free.set()

    def fail(self, code: str, status: int = 400, times: int = 1) -> None:
        """Answer with a KMS error."""
        self.scripted += [(status, _build_error(code))] * times

    def refuse(self, name: str, code: str) -> None:
        """Answer with a KMS error whenever the data key of a Secret is asked for."""
        self.refused[_build_blob(name)] = (400, _build_error(code))

    @contextlib.contextmanager
    def holding(self) -> Iterator[None]:
        """Take requests and answer none of them until the end."""
        self._free.clear()
        try:
            yield
        finally:
            self._free.set()

    def wait_free(self) -> None:
        """Wait until answers may be given."""
        self._free.wait(PATIENCE_SECONDS)

    def answer(self, blob: bytes) -> tuple[int, bytes]:
        """Return status and body for one Decrypt."""
        if blob in self.refused:
            return self.refused[blob]
        if self.scripted:
            return self.scripted.pop(0)
        plaintext = base64.b64encode(self.plaintexts[blob]).decode()
        body = {"KeyId": KEY_ARN, "Plaintext": plaintext, "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"}
        return 200, json.dumps(body).encode()


def _build_blob(name: str) -> bytes:
    return b"ciphertext of " + name.encode()


def _build_error(code: str) -> bytes:
    return json.dumps({"__type": code, "message": "text of the server"}).encode()


def _build_handler(service: FakeKeyService) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Head and body are two packets: the second one would wait 40 ms for the first one's acknowledgement.
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            call = {"headers": dict(self.headers), "path": self.path, "body": body, "at": time.monotonic()}
            service.connections.add(self.client_address)
            service.calls.append(call)
            service.wait_free()
            status, answer = service.answer(base64.b64decode(body.get("CiphertextBlob", "")))
            self.send_response(status)
            self.send_header("x-amzn-RequestId", service.request_id)
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


class TlsServer(ThreadingHTTPServer):
    """An HTTPS server whose failed handshakes are no noise."""

    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """Say nothing: tests provoke broken connections."""


@dataclass
class Pod:
    """The folders of one pod and its environment."""

    root: Path
    keys: Path
    service: FakeKeyService
    environment: dict[str, str]
    #: What was started, and where its output goes.
    outputs: dict["subprocess.Popen[bytes]", Path] = field(default_factory=dict)

    def add_secret(self, name: str, plaintext: bytes, request: str = "") -> None:
        """Put an encrypted data key where the kubelet would; its request is called as it, version aside.

        All of it is there at once, as with the kubelet: a sidecar may be looking.
        """
        blob = _build_blob(name)
        self.service.plaintexts[blob] = plaintext
        context = {"datakeys.dev/request": request or name.partition("@")[0], "purpose": "tést"}
        draft = Path(tempfile.mkdtemp(dir=self.root))
        draft.chmod(0o755)
        for key, value in EncryptedDataKey(blob, KEY_ARN, "0" * 64, context).to_fields().items():
            (draft / key).write_bytes(value)
        draft.rename(self.root / "encrypted" / name)

    def run(
        self,
        *arguments: str,
        env: dict[str, str] | None = None,
        uid: int | None = None,
        python: str = sys.executable,
    ) -> "subprocess.Popen[bytes]":
        """Start the program as its first line does, with a given Python: no HOME, nothing from the shell."""
        return self.start([python, "-ISB", str(PROGRAM), *arguments], env=env, uid=uid)

    def start(
        self, command: list[str], *, env: dict[str, str] | None = None, uid: int | None = None
    ) -> "subprocess.Popen[bytes]":
        """Start a command with the pod's environment and more; its output goes to a file."""
        output = self.root / f"output-{len(self.outputs)}"
        with output.open("wb") as file:
            process = subprocess.Popen(
                command,
                env={**self.environment, **(env or {})},
                stdout=file,
                stderr=subprocess.STDOUT,
                cwd="/",
                user=uid,
            )
        self.outputs[process] = output
        return process

    def probe(self, env: dict[str, str] | None = None) -> int:
        """Run the probe; return its exit status."""
        return self.run("probe", env=env).wait(PATIENCE_SECONDS)

    def stop(self, process: "subprocess.Popen[bytes]") -> str:
        """Send SIGTERM; return what the process had printed."""
        process.terminate()
        return self.read_output(process)

    def read_output(self, process: "subprocess.Popen[bytes]") -> str:
        """Wait for the end of a process; return what it had printed."""
        process.wait(PATIENCE_SECONDS)
        return self.outputs[process].read_text()

    def wait_event(self, process: "subprocess.Popen[bytes]", name: str) -> dict[str, Any]:
        """Wait until a process has told of an event; return the first of that name."""

        def find() -> list[dict[str, Any]]:
            events = map(json.loads, read_whole_lines(self.outputs[process]))
            return [event for event in events if event["event"] == name]

        wait_until(lambda: bool(find()))
        return find()[0]


def find_python(uid: int) -> str:
    """Return a Python 3.11 that a user may start; skip the test if there is none."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    for python in (sys.executable, "/usr/local/bin/python3.11", "/usr/bin/python3.11"):
        try:
            if subprocess.run([python, "-c", ""], user=uid, check=False, cwd="/").returncode == 0:
                return python
        except OSError:
            continue
    pytest.skip("no Python 3.11 that other users may start")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until a condition holds.

    Raises:
        TimeoutError: It doesn't.
    """
    end = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.005)


@pytest.fixture(scope="session")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a folder with ca.crt, tls.crt and tls.key."""
    folder = tmp_path_factory.mktemp("certificates")
    make_certificate(folder)
    return folder


@pytest.fixture
def key_service(certificates: Path) -> Iterator[FakeKeyService]:
    """Give a key service that listens on loopback with TLS."""
    service = FakeKeyService()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
    server = TlsServer(("127.0.0.1", 0), _build_handler(service))
    server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    service.url = f"https://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield service
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture
def memory_folder() -> Iterator[Path]:
    """Give a folder on a tmpfs, as the memory-backed volume is."""
    folder = Path(tempfile.mkdtemp(dir="/dev/shm"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def pod(memory_folder: Path, key_service: FakeKeyService, certificates: Path) -> Iterator[Pod]:
    """Give a pod with the request ``orders`` whose Secret isn't mounted yet."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    (root / "token").write_text("token-of-the-pod\n")
    shutil.copy(certificates / "ca.crt", root / "ca.crt")
    environment = {
        "DATAKEYS_REQUESTS": "orders",
        "DATAKEYS_DELIVERY": "file",
        "DATAKEYS_KEYSERVICE_URL": key_service.url,
        "DATAKEYS_KEYSERVICE_CA_FILE": str(root / "ca.crt"),
        "DATAKEYS_TOKEN_FILE": str(root / "token"),
        "DATAKEYS_ENCRYPTED_DIRECTORY": str(root / "encrypted"),
        "DATAKEYS_KEYS_DIRECTORY": str(memory_folder),
    }
    (root / "encrypted").mkdir()
    made = Pod(root, memory_folder, key_service, environment)
    yield made
    for process in made.outputs:
        if process.poll() is None:
            process.kill()
        process.wait()
    shutil.rmtree(root)
