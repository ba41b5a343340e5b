"""The local mode as developers meet it: a real process, boto3, plain HTTP."""

import http.client
import json
import os
import random
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.exceptions import ClientError

from datakeys.keyservice.server.http import HttpLimits
from local_mode import OPERATOR, PATIENCE_SECONDS, LocalProcess, Starter, start

ACCOUNT = "123456789012"
ANY_DATE = {"X-Amz-Date": "20260101T000000Z"}
ANY_SIGNATURE = (
    "AWS4-HMAC-SHA256 Credential=A/20260101/us-east-1/kms/aws4_request, SignedHeaders=host, Signature=0"
)


def post(
    local: LocalProcess, headers: dict[str, str], body: bytes = b"{}", path: str = "/"
) -> tuple[int, dict[str, str], bytes]:
    """Send one request as it is; return status, headers and body."""
    connection = http.client.HTTPConnection("127.0.0.1", local.ready["port"], timeout=PATIENCE_SECONDS)
    names = {name.lower() for name in headers}
    target = {} if "x-amz-target" in names else {"x-amz-target": "TrentService.ListKeys"}
    connection.request("POST", path, body, {**target, **headers})
    answer = connection.getresponse()
    raw = answer.read()
    connection.close()
    return answer.status, {name.lower(): value for name, value in answer.getheaders()}, raw


def error_code(caught: pytest.ExceptionInfo[ClientError]) -> str:
    return str(caught.value.response["Error"]["Code"])


@pytest.fixture(params=["memory", "durable"])
def local(request: pytest.FixtureRequest, start_local: Starter, tmp_path: Path) -> LocalProcess:
    """Start the local mode in both modes of storage."""
    return start_local(*(("--data-dir", tmp_path / "data") if request.param == "durable" else ()))


def test_ready_line_and_time(start_local: Starter) -> None:
    """One JSON line says where it listens, after less than two seconds of work."""
    local = start_local("--account", "000000000001", "--region", "eu-west-1")
    assert local.ready == {
        "event": "ready",
        "endpoint": f"http://127.0.0.1:{local.ready['port']}",
        "port": local.ready["port"],
        "account": "000000000001",
        "region": "eu-west-1",
        "dataDir": None,
    }
    assert local.ready_cpu_seconds < 2


@pytest.mark.parametrize(
    ("listen", "endpoint"),
    [("localhost:0", "http://127.0.0.1:"), ("[::1]:0", "http://[::1]:"), ("0.0.0.0:0", "http://0.0.0.0:")],
)
def test_ways_to_listen(listen: str, endpoint: str) -> None:
    """Names and IPv6 work; an address that others can reach gets a warning."""
    process = start("--listen", listen)
    assert process.stdout is not None
    ready = json.loads(process.stdout.readline())
    assert ready["endpoint"] == f"{endpoint}{ready['port']}"
    with urllib.request.urlopen(ready["endpoint"] + "/healthz", timeout=PATIENCE_SECONDS) as answer:  # noqa: S310
        assert answer.status == 200
    process.terminate()
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert ("anybody who can reach this address" in errors) == listen.startswith("0.")


def test_unknown_host_is_a_clear_error() -> None:
    """A name that doesn't resolve ends the start with one line."""
    process = start("--listen", "nowhere.invalid:0")
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    assert process.returncode == 1
    assert errors.startswith("can't start: ")
    assert errors.count("\n") == 1


def test_start_imports_no_cluster_client() -> None:
    """What only the cluster needs isn't loaded: the start is fast, and works where it isn't installed."""
    code = (
        "import sys, datakeys.keyservice.local.app\n"
        "print(sorted({'kubernetes', 'jwt', 'urllib3', 'yaml', 'kopf'} & set(sys.modules)))"
    )
    environment = {"PYTHONPATH": str(OPERATOR)}
    output = subprocess.check_output([sys.executable, "-c", code], env=environment, text=True)
    assert output == "[]\n"


def test_life_of_a_key(local: LocalProcess) -> None:
    """boto3 makes a key and data keys, decrypts, renames, disables and deletes, with AWS's ARNs."""
    kms = local.client()
    key = kms.create_key(Description="test")["KeyMetadata"]
    assert key["Arn"] == f"arn:aws:kms:us-east-1:{ACCOUNT}:key/{key['KeyId']}"
    assert key["AWSAccountId"] == ACCOUNT
    kms.create_alias(AliasName="alias/app", TargetKeyId=key["KeyId"])
    listed = kms.list_aliases(KeyId=key["KeyId"])["Aliases"]
    assert [alias["AliasArn"] for alias in listed] == [f"arn:aws:kms:us-east-1:{ACCOUNT}:alias/app"]
    context = {"purpose": "test"}
    made = kms.generate_data_key_without_plaintext(
        KeyId="alias/app", KeySpec="AES_256", EncryptionContext=context
    )
    assert (made["KeyId"], "Plaintext" in made) == (key["Arn"], False)
    opened = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=context)
    assert len(opened["Plaintext"]) == 32
    pair = kms.generate_data_key(KeyId=listed[0]["AliasArn"], KeySpec="AES_128")
    assert kms.decrypt(CiphertextBlob=pair["CiphertextBlob"])["Plaintext"] == pair["Plaintext"]
    kms.disable_key(KeyId=key["KeyId"])
    with pytest.raises(kms.exceptions.DisabledException):
        kms.decrypt(CiphertextBlob=pair["CiphertextBlob"])
    kms.schedule_key_deletion(KeyId=key["Arn"], PendingWindowInDays=7)
    assert kms.describe_key(KeyId=key["Arn"])["KeyMetadata"]["KeyState"] == "PendingDeletion"
    kms.cancel_key_deletion(KeyId=key["Arn"])
    assert kms.describe_key(KeyId=key["Arn"])["KeyMetadata"]["KeyState"] == "Disabled"


def test_regions_are_apart(local: LocalProcess) -> None:
    """Every Region has its own keys and ARNs; a key of another Region isn't found."""
    west, gov = local.client("us-west-2"), local.client("us-gov-west-1")
    key = west.create_key()["KeyMetadata"]
    assert key["Arn"].startswith(f"arn:aws:kms:us-west-2:{ACCOUNT}:key/")
    assert gov.create_key()["KeyMetadata"]["Arn"].startswith(f"arn:aws-us-gov:kms:us-gov-west-1:{ACCOUNT}:")
    east = local.client()
    for key_id in (key["KeyId"], key["Arn"]):
        with pytest.raises(east.exceptions.NotFoundException):
            east.describe_key(KeyId=key_id)


def test_one_region_only(start_local: Starter) -> None:
    """With --region another Region's client gets AWS's error, which names its Region."""
    local = start_local("--region", "eu-west-1")
    assert local.client("eu-west-1").list_keys()["Keys"] == []
    with pytest.raises(ClientError) as caught:
        local.client("us-east-1").list_keys()
    assert caught.value.response["Error"] == {
        "Code": "InvalidSignatureException",
        "Message": "Credential should be scoped to a valid region, not 'us-east-1'. ",
    }


@pytest.mark.parametrize("name", ["nowhere", "..", "a-b-1"])
def test_names_that_are_no_regions(shared_local: LocalProcess, name: str) -> None:
    """A scope that names no Region opens nothing."""
    _, _, raw = post(shared_local, {"Authorization": ANY_SIGNATURE.replace("us-east-1", name), **ANY_DATE})
    assert json.loads(raw) == {
        "__type": "InvalidSignatureException",
        "message": f"Credential should be scoped to a valid region, not '{name}'. ",
    }


AUTHENTICATION_ERRORS = [
    ({}, "MissingAuthenticationTokenException", "Missing Authentication Token"),
    (
        {"Authorization": "AWS4-HMAC-SHA256", "X-Amz-Date": "20260101T000000Z"},
        "IncompleteSignatureException",
        (
            "Authorization header requires 'Credential' parameter. "
            "Authorization header requires 'Signature' parameter. "
            "Authorization header requires 'SignedHeaders' parameter. "
            "(Hashed with SHA-256 and encoded with Base64) "
            "Authorization=c0Sl9Pp+0AZj9XCNHlH4qIqLwlXQtnOi1pyGCCuwyz4="
        ),
    ),
    (
        {
            "Authorization": ANY_SIGNATURE.replace("us-east-1/kms", "us-east-1/s3"),
            "X-Amz-Date": "20260101T000000Z",
        },
        "InvalidSignatureException",
        "Credential should be scoped to correct service: 'kms'. ",
    ),
    (
        {"Authorization": ANY_SIGNATURE, "X-Amz-Date": "today"},
        "IncompleteSignatureException",
        "Date must be in ISO-8601 'basic format'. Got 'today'.",
    ),
    (
        {"Authorization": ANY_SIGNATURE, "X-Amz-Date": "20260101T000000Z", "X-Datakeys-Account": "team-a"},
        "AccessDeniedException",
        "The caller is not authorized to perform this operation.",
    ),
]


@pytest.mark.parametrize(("headers", "code", "message"), AUTHENTICATION_ERRORS)
def test_errors_of_authentication(
    shared_local: LocalProcess, headers: dict[str, str], code: str, message: str
) -> None:
    """Byte by byte: status, content type, request id, and the JSON of name and text."""
    status, answered, raw = post(shared_local, headers)
    if "Hashed" in message:
        message = message.partition(" Authorization=")[0]
        raw = raw.partition(b" Authorization=")[0] + b'"}'
    assert status == 400
    assert answered["content-type"] == "application/x-amz-json-1.1"
    assert len(answered["x-amzn-requestid"]) == 36
    assert raw == json.dumps({"__type": code, "message": message}).encode()


def test_any_credentials(shared_local: LocalProcess) -> None:
    """Without configured credentials every well-formed signature counts, old ones and tokens too."""
    old = {"Authorization": ANY_SIGNATURE, "X-Amz-Date": "20150830T123600Z"}
    assert post(shared_local, old)[0] == 200
    shared_local.client("us-east-1", "ASIAX", "y", aws_session_token="token").list_keys()


@pytest.fixture
def guarded(start_local: Starter, tmp_path: Path) -> LocalProcess:
    """Start a local mode that knows one pair of credentials."""
    secret = tmp_path / "secret"
    secret.write_text("right\n")
    return start_local("--access-key-id", "AKID", "--secret-access-key-file", secret)


def signed(
    local: LocalProcess,
    secret: str = "right",  # noqa: S107
    **changes: str,
) -> dict[str, str]:
    """Return the headers of a signed ListKeys."""
    request = AWSRequest(
        "POST", local.endpoint + "/", headers={"X-Amz-Target": "TrentService.ListKeys"}, data=b"{}"
    )
    SigV4Auth(Credentials("AKID", secret, changes.pop("token", None)), "kms", "us-east-1").add_auth(request)
    return {**dict(request.headers.items()), **changes}


def test_configured_credentials(guarded: LocalProcess) -> None:
    """The right credentials pass, with a session token and in every Region; others get AWS's errors."""
    guarded.client("us-east-1", "AKID", "right").create_key()
    guarded.client("eu-west-1", "AKID", "right", aws_session_token="t").create_key(Description="ü" * 4000)
    assert post(guarded, signed(guarded))[0] == 200
    with pytest.raises(ClientError) as caught:
        guarded.client("us-east-1", "AKOTHER", "right").list_keys()
    assert caught.value.response["Error"] == {
        "Code": "UnrecognizedClientException",
        "Message": "The security token included in the request is invalid.",
    }
    for region in ("us-east-1", "eu-west-3"):
        with pytest.raises(ClientError) as caught:
            guarded.client(region, "AKID", "wrong").list_keys()
        assert caught.value.response["Error"]["Code"] == "InvalidSignatureException"
    assert post(guarded, signed(guarded), b"{} ")[0] == 400
    _, _, raw = post(guarded, {**signed(guarded), "X-Amz-Target": "TrentService.CreateKey"})
    assert json.loads(raw)["__type"] == "InvalidSignatureException"


def test_refused_callers_open_no_region(guarded: LocalProcess) -> None:
    """A wrong signature makes no state for its Region: the bound on Regions is for who may come in."""
    for number in range(70):
        with pytest.raises(ClientError):
            guarded.client(f"aa-bb-{number}", "AKID", "wrong").list_keys()
    assert guarded.client("ap-south-1", "AKID", "right").list_keys()["Keys"] == []


def test_clock_skew(guarded: LocalProcess) -> None:
    """A signature of another hour is refused with both clocks in the text."""
    moment = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(time.time() - 3600))
    sent = signed(guarded, **{"X-Amz-Date": moment})
    sent["Authorization"] = sent["Authorization"].replace(
        time.strftime("%Y%m%d/", time.gmtime()), moment[:8] + "/"
    )
    _, _, raw = post(guarded, sent)
    error = json.loads(raw)
    assert error["__type"] == "InvalidSignatureException"
    assert error["message"].startswith(f"Signature expired: {moment} is now earlier than ")
    assert error["message"].endswith(" - 5 min.)")


def test_unsigned_requests_if_allowed(start_local: Starter) -> None:
    """With --allow-unsigned curl can speak to it; a malformed signature is still refused."""
    local = start_local("--allow-unsigned", "--region", "eu-west-2")
    assert post(local, {})[2] == b'{"Keys":[],"Truncated":false}'
    assert post(local, {"Authorization": "Basic eDp5"})[0] == 400
    assert post(local, {"X-Datakeys-Object-Name": "x"})[0] == 400


def test_health_needs_no_signature(shared_local: LocalProcess) -> None:
    """Tools can wait for it with a plain GET."""
    with urllib.request.urlopen(shared_local.endpoint + "/healthz", timeout=PATIENCE_SECONDS) as answer:  # noqa: S310
        assert (answer.status, answer.read()) == (200, b"ok\n")


def test_peculiarities_of_sdks(shared_local: LocalProcess) -> None:
    """Chunked bodies, a query, other content types, retry headers and HTTP/1.1 keep-alive all work."""
    head = {"Authorization": ANY_SIGNATURE, "X-Amz-Date": "20260101T000000Z"}
    for more in (
        {"content-type": "application/x-amz-json-1.1; charset=utf-8"},
        {"amz-sdk-invocation-id": "1", "amz-sdk-request": "attempt=2; max=3", "x-amzn-trace-id": "Root=1"},
        {"User-Agent": "aws-sdk-go-v2/1.0", "Accept-Encoding": "identity"},
    ):
        assert post(shared_local, {**head, **more})[0] == 200
    assert post(shared_local, head, path="/?x=y")[0] == 200
    assert post(shared_local, head, path="/x")[0] == 400
    connection = http.client.HTTPConnection("127.0.0.1", shared_local.ready["port"], timeout=PATIENCE_SECONDS)
    target = {"X-Amz-Target": "TrentService.ListKeys"}
    connection.request("POST", "/", iter([b"{", b"}"]), {**head, **target}, encode_chunked=True)
    answer = connection.getresponse()
    assert (answer.status, json.loads(answer.read())["Truncated"]) == (200, False)
    connection.request("POST", "/", b"", {**head, **target})
    assert connection.getresponse().status == 200
    connection.close()


def test_reserved_aliases(shared_local: LocalProcess) -> None:
    """``alias/aws/`` belongs to AWS."""
    kms = shared_local.client()
    key = kms.create_key()["KeyMetadata"]["KeyId"]
    with pytest.raises(ClientError):
        kms.create_alias(AliasName="alias/aws/mine", TargetKeyId=key)


@pytest.mark.parametrize("number", [15, 2])
def test_signals_end_it_at_once(start_local: Starter, number: int) -> None:
    """SIGTERM and SIGINT end it with code 0, and an unfinished request isn't waited for."""
    local = start_local()
    with socket.create_connection(("127.0.0.1", local.ready["port"])) as idle:
        idle.sendall(b"POST / HTTP/1.1\r\n")
        started = time.monotonic()
        local.process.send_signal(number)
        assert local.process.wait(PATIENCE_SECONDS) == 0
    assert time.monotonic() - started < HttpLimits().header_timeout_seconds


def test_restart_finds_everything(start_local: Starter, tmp_path: Path) -> None:
    """A second process on the same directory knows keys, aliases and ciphertext of all Regions."""
    first = start_local("--data-dir", tmp_path)
    kms, west = first.client(), first.client("us-west-2")
    key = kms.create_key()["KeyMetadata"]
    kms.create_alias(AliasName="alias/app", TargetKeyId=key["KeyId"])
    west_key = west.create_key()["KeyMetadata"]
    made = kms.generate_data_key(KeyId="alias/app", KeySpec="AES_256")
    assert first.stop() == 0
    second = start_local("--data-dir", tmp_path)
    kms = second.client()
    opened = kms.decrypt(CiphertextBlob=made["CiphertextBlob"], KeyId="alias/app")
    assert opened["Plaintext"] == made["Plaintext"]
    found = second.client("us-west-2").describe_key(KeyId=west_key["Arn"])["KeyMetadata"]
    assert found["CreationDate"] == west_key["CreationDate"]


def test_directory_has_one_process(start_local: Starter, tmp_path: Path) -> None:
    """A second process ends with code 1 and one line that says who has it; a killed one frees it."""
    first = start_local("--data-dir", tmp_path)
    second = start("--listen", "127.0.0.1:0", "--data-dir", tmp_path)
    output, errors = second.communicate(timeout=PATIENCE_SECONDS)
    assert (second.returncode, output) == (1, "")
    assert errors == (
        f"can't start: {tmp_path} is in use by another key service (process {first.process.pid}); "
        "stop it, or choose another --data-dir\n"
    )
    first.kill()
    start_local("--data-dir", tmp_path)


def test_port_in_use_is_a_clear_error(shared_local: LocalProcess) -> None:
    """A taken port ends the start with one line."""
    second = start("--listen", f"127.0.0.1:{shared_local.ready['port']}")
    _, errors = second.communicate(timeout=PATIENCE_SECONDS)
    assert second.returncode == 1
    assert errors.startswith("can't start: ")
    assert errors.count("\n") == 1


class Writer(threading.Thread):
    """Makes keys and aliases as fast as it can and remembers what was acknowledged."""

    def __init__(self, client: Any, name: str) -> None:
        super().__init__()
        self.client = client
        self.prefix = name
        self.keys: dict[str, str] = {}
        self.aliases: dict[str, str] = {}
        self.blobs: list[tuple[bytes, bytes]] = []

    def run(self) -> None:
        """Write until the process is gone."""
        try:
            for number in range(100_000):
                key = self.client.create_key(Description=f"{self.prefix}-{number}")["KeyMetadata"]["KeyId"]
                self.keys[key] = "Enabled"
                data = self.client.generate_data_key(KeyId=key, KeySpec="AES_256")
                self.blobs.append((data["CiphertextBlob"], data["Plaintext"]))
                alias = f"alias/{self.prefix}/{number}"
                self.client.create_alias(AliasName=alias, TargetKeyId=key)
                self.aliases[alias] = key
                if number % 3 == 0:
                    self.keys[key] = "?"
                    self.client.disable_key(KeyId=key)
                    self.keys[key] = "Disabled"
        except Exception:  # noqa: BLE001 - an answer that is cut anywhere shows in many ways
            return


def test_killed_process_loses_no_acknowledged_write(start_local: Starter, tmp_path: Path) -> None:
    """Killed at random moments of a loop of writes, it finds all that it had acknowledged."""
    rounds = int(os.environ.get("DATAKEYS_KILL_ROUNDS", "5"))
    moments = random.Random(20261124)  # noqa: S311 - moments, not secrets
    writers: list[Writer] = []
    for number in range(rounds):
        local = start_local("--data-dir", tmp_path)
        new = [Writer(local.client(), f"{number}-{name}") for name in "ab"]
        for writer in new:
            writer.start()
        while not all(writer.keys for writer in new):
            assert all(writer.is_alive() for writer in new)
            time.sleep(0.01)
        time.sleep(moments.uniform(0.0, 0.8))
        local.kill()
        for writer in new:
            writer.join(PATIENCE_SECONDS)
        writers += new
    kms = start_local("--data-dir", tmp_path).client()
    pages = kms.get_paginator("list_aliases").paginate()
    aliases = {alias["AliasName"]: alias["TargetKeyId"] for page in pages for alias in page["Aliases"]}
    assert sum(len(writer.keys) for writer in writers) > rounds
    for writer in writers:
        for key, state in writer.keys.items():
            found = kms.describe_key(KeyId=key)["KeyMetadata"]["KeyState"]
            assert state in (found, "?")
            if found == "Disabled":
                kms.enable_key(KeyId=key)
        assert writer.aliases.items() <= aliases.items()
        for blob, plaintext in writer.blobs:
            assert kms.decrypt(CiphertextBlob=blob)["Plaintext"] == plaintext
