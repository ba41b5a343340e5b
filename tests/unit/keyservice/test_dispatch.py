"""From request to answer: protocol errors, authentication, audit before reply, and what never blocks."""

import asyncio
import json
import logging
import os
import re
import threading
import time
import uuid
from pathlib import Path
from typing import Any

import pytest

from datakeys.contract.errors import AuditError, all_error_types
from datakeys.keyservice.audit.audit_log import AuditLog, AuditRecord
from datakeys.keyservice.operations import table
from datakeys.keyservice.server.errors import REQUEST_ID_HEADER, build_error_response
from datakeys.keyservice.server.http import HttpRequest, HttpResponse
from datakeys.keyservice.server.metrics import render
from datakeys.keyservice.store.records import KeyRecord
from keyservice_rig import DispatchRig, bound

ACCOUNT = {"x_datakeys_account": "team-a"}


@pytest.fixture
def rig(dispatch_rig: DispatchRig) -> DispatchRig:
    """Return the way of a request, at the real time."""
    dispatch_rig.rig.clock.now = time.time()
    return dispatch_rig


@pytest.fixture
def controller(rig: DispatchRig) -> str:
    """Return the controller's token."""
    return rig.issuer.token("datakey-system", "datakeys-controller", in_pod=True)


def read(audit_file: Path) -> str:
    return audit_file.read_text()


def records(audit_file: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in read(audit_file).splitlines()]


async def create(rig: DispatchRig, controller: str) -> str:
    status, body, _ = await rig.send("CreateKey", {}, controller, **ACCOUNT)
    assert status == 200
    return str(body["KeyMetadata"]["Arn"])


async def test_success_has_a_request_id(rig: DispatchRig, controller: str, audit_file: Path) -> None:
    """The answer's request id is the audit record's event id."""
    _, _, answer = await rig.send("CreateKey", {}, controller, **ACCOUNT)
    headers = dict(answer.headers)
    request_id = headers[b"x-amzn-RequestId"].decode()
    assert re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", request_id)
    assert answer.content_type == b"application/x-amz-json-1.1"
    assert records(audit_file)[-1]["eventID"] == request_id


@pytest.mark.parametrize(
    ("method", "target", "operation"),
    [
        ("POST", b"/", b"TrentService.Dance"),
        ("POST", b"/", b"CreateKey"),
        ("POST", b"/", b""),
        ("GET", b"/", b"TrentService.CreateKey"),
        ("POST", b"/other", b"TrentService.CreateKey"),
    ],
)
def test_unknown_operations(rig: DispatchRig, method: str, target: bytes, operation: bytes) -> None:
    """Another target, method or path is an unknown operation."""
    answer = rig.handle(HttpRequest(method, target, {b"x-amz-target": operation}, b"{}", ""))
    assert isinstance(answer, HttpResponse)
    assert json.loads(answer.body)["__type"] == "UnknownOperationException"


@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"5",
        b'"x"',
        b"null",
        b"\xff",
        b"{}x",
        b'{"a":NaN}',
        b"[" * 100_000,
        b"\xef\xbb\xbf{}",
        b'{"a":Infinity}',
        b'{"a":1e400}',
        b'{"a":"\\ud800"}',
        b'{"\\udfff":1}',
        b'{"a":' * 2000 + b"1" + b"}" * 2000,
    ],
)
async def test_bodies_that_are_no_json_object(rig: DispatchRig, body: bytes) -> None:
    """Serialization is checked before the caller is."""
    status, answer, _ = await rig.send("CreateKey", body)
    assert (status, answer["__type"]) == (400, "SerializationException")


async def test_integers_beyond_64_bits(rig: DispatchRig, controller: str) -> None:
    """They aren't integers of the protocol, as at AWS."""
    status, answer, _ = await rig.send("ListKeys", b'{"Limit":18446744073709551616}', controller, **ACCOUNT)
    assert (status, answer["__type"]) == (400, "SerializationException")


async def test_request_ids_differ(rig: DispatchRig, controller: str) -> None:
    """Each request has an id of its own, in the form of a UUID."""
    ids = [dict((await rig.send("ListAliases", {}, controller, **ACCOUNT))[2].headers) for _ in range(3)]
    assert len({uuid.UUID(headers[REQUEST_ID_HEADER].decode()) for headers in ids}) == 3


async def test_empty_body_is_an_empty_object(rig: DispatchRig, controller: str) -> None:
    """No body at all is fine where nothing is required."""
    status, _, _ = await rig.send("ListAliases", b"", controller, **ACCOUNT)
    assert status == 200


async def test_missing_token(rig: DispatchRig) -> None:
    """No credentials have their own error."""
    status, answer, _ = await rig.send("CreateKey")
    assert (status, answer["__type"]) == (400, "MissingAuthenticationTokenException")


async def test_every_bad_token_gets_the_same_body(rig: DispatchRig) -> None:
    """Garbage, a dead token, another audience and another scheme can't be told apart."""
    dead = rig.issuer.token("team-a", "dead")
    rig.issuer.dead.add(dead)
    other = rig.issuer.sign({**rig.issuer.claims("team-a", "app"), "aud": ["other"]})
    answers = [await rig.send("Decrypt", {}, token) for token in ("garbage", dead, dead, other)]
    answers.append(await rig.send("Decrypt", {}, None, authorization="AWS4-HMAC-SHA256 Credential=x"))
    assert {answer[2].body for answer in answers} == {answers[0][2].body}
    assert answers[0][1]["__type"] == "UnrecognizedClientException"


async def test_cluster_away_is_retryable(rig: DispatchRig, controller: str) -> None:
    """If nobody can vouch for the token the answer is a 500 that clients retry."""
    rig.issuer.reachable = False
    status, answer, _ = await rig.send("ListAliases", {}, controller, **ACCOUNT)
    assert (status, answer["__type"]) == (500, "DependencyTimeoutException")


@pytest.mark.parametrize("header", [{}, {"x_datakeys_account": "Team A"}])
async def test_controller_without_account(rig: DispatchRig, controller: str, header: dict[str, str]) -> None:
    """The controller must say for whom it acts."""
    _, answer, _ = await rig.send("CreateKey", {}, controller, **header)
    assert answer["__type"] == "AccessDeniedException"


async def test_others_may_not_name_an_account(rig: DispatchRig) -> None:
    """The header is refused from anybody else, even with the own namespace."""
    token = rig.issuer.token("team-a", "app", in_pod=True)
    _, answer, _ = await rig.send("ListAliases", {}, token, **ACCOUNT)
    assert answer["__type"] == "AccessDeniedException"


async def test_object_name_makes_create_key_idempotent(rig: DispatchRig, controller: str) -> None:
    """The header's object gets one key; a name that is no name is refused."""
    made = [
        await rig.send("CreateKey", {}, controller, x_datakeys_object_name=name, **ACCOUNT)
        for name in ("main", "main", "x" * 254)
    ]
    assert made[0][1] == made[1][1]
    assert made[2][1]["__type"] == "SerializationException"


async def test_cached_reads_are_answered_at_once(rig: DispatchRig, controller: str) -> None:
    """With a known token a read or a data key needs no task; a write never runs on the loop."""
    arn = await create(rig, controller)
    body = {"KeyId": arn, "KeySpec": "AES_256", "EncryptionContext": bound()}
    data_key = rig.request("GenerateDataKeyWithoutPlaintext", body, controller, **ACCOUNT)
    assert isinstance(rig.handle(data_key), HttpResponse)
    seen: list[int] = []
    original = rig.rig.store.create_key
    rig.rig.store.create_key = lambda record: (seen.append(threading.get_ident()), original(record))[1]  # type: ignore[method-assign, func-returns-value]
    await create(rig, controller)
    assert seen
    assert threading.get_ident() not in seen


async def test_key_of_another_replica_is_fetched_for_the_controller(
    rig: DispatchRig, controller: str
) -> None:
    """If memory doesn't have the key yet, the controller's call looks once more before it fails."""
    arn = await create(rig, controller)
    key_id = arn.rpartition("/")[2]
    record = rig.rig.store.find_key(key_id)
    assert record is not None
    rig.rig.store.index.drop(record)

    def refresh(key_id: str) -> KeyRecord | None:
        if key_id == record.key_id:
            rig.rig.store.index.put(record)
        return rig.rig.store.find_key(key_id)

    rig.rig.store.refresh_key = refresh  # type: ignore[method-assign]
    status, _, _ = await rig.send("DescribeKey", {"KeyId": arn}, controller, **ACCOUNT)
    assert status == 200
    status, answer, _ = await rig.send("DescribeKey", {"KeyId": arn[:-12] + "0" * 12}, controller, **ACCOUNT)
    assert answer["__type"] == "NotFoundException"


class TestAudit:
    """One record per verb, before the reply."""

    async def test_success(self, rig: DispatchRig, controller: str, audit_file: Path) -> None:
        """Who, what, on which key, with which context, and why it was allowed."""
        arn = await create(rig, controller)
        body = {"KeyId": arn, "KeySpec": "AES_256", "EncryptionContext": bound(quote='"\n')}
        await rig.send("GenerateDataKeyWithoutPlaintext", body, controller, **ACCOUNT)
        record = records(audit_file)[-1]
        assert record["stream"] == "kms.audit"
        assert record["eventName"] == "GenerateDataKeyWithoutPlaintext"
        assert record["keyId"] == arn
        assert record["recipientAccountId"] == "team-a"
        assert record["encryptionContext"] == bound(quote='"\n')
        assert record["userIdentity"]["type"] == "controller"
        assert record["sourceIPAddress"] == "192.0.2.1:5000"
        assert len(record["ciphertextBlobSha256"]) == 64
        assert "errorCode" not in record
        assert record["reason"]

    async def test_denial(self, rig: DispatchRig, audit_file: Path) -> None:
        """A denied call is recorded with the reason that the caller doesn't get."""
        token = rig.issuer.token("team-a", "app", in_pod=True)
        _, answer, _ = await rig.send("CreateKey", {}, token)
        record = records(audit_file)[-1]
        assert record["errorCode"] == "AccessDeniedException"
        assert record["userIdentity"]["podName"] == "pod-1"
        assert record["reason"] not in answer["message"]

    async def test_unknown_caller(self, rig: DispatchRig, audit_file: Path) -> None:
        """A call whose caller can't be told is recorded too."""
        await rig.send("Decrypt", {}, "garbage")
        record = records(audit_file)[-1]
        assert (record["errorCode"], record["userIdentity"]) == (
            "UnrecognizedClientException",
            {"type": "Unknown"},
        )

    async def test_dry_run_is_marked(self, rig: DispatchRig, controller: str, audit_file: Path) -> None:
        """A dry run is recorded as one."""
        arn = await create(rig, controller)
        body = {"KeyId": arn, "KeySpec": "AES_256", "EncryptionContext": bound(), "DryRun": True}
        await rig.send("GenerateDataKeyWithoutPlaintext", body, controller, **ACCOUNT)
        assert records(audit_file)[-1]["dryRun"] is True

    async def test_a_text_with_no_json_form_is_no_record(self, audit_file: Path) -> None:
        """A lone surrogate can't come from a caller; if one gets there all the same, nothing is written."""
        with audit_file.open("w") as file:
            audit = AuditLog("test", fd=file.fileno())
            with pytest.raises(AuditError):
                audit.write(AuditRecord("id", "Encrypt", "", None, "", context={"\ud800": ""}))
            audit.write(AuditRecord("id", "Encrypt", "", None, ""))
        assert len(records(audit_file)) == 1

    async def test_no_text_of_a_caller_ends_the_line(self, rig: DispatchRig, audit_file: Path) -> None:
        """One record is one line, whatever is in it."""
        token = rig.issuer.token("team-a", "app", in_pod=True)
        body = {"KeyId": "\r\n\x00\x1e", "Plaintext": "eA==", "EncryptionContext": {"\n": "\r\n{}\u2028é"}}
        await rig.send("Encrypt", body, token)
        assert read(audit_file).count("\n") == 1
        record = json.loads(read(audit_file))
        assert (record["keyId"], record["encryptionContext"]) == (body["KeyId"], body["EncryptionContext"])

    async def test_no_record_no_reply(self, rig: DispatchRig, controller: str) -> None:
        """If the record can't be written, the caller gets a 500 and no data key."""
        arn = await create(rig, controller)
        rig.dispatcher._audit._fd = 9999
        body = {"KeyId": arn, "KeySpec": "AES_256", "EncryptionContext": bound()}
        status, answer, _ = await rig.send("GenerateDataKeyWithoutPlaintext", body, controller, **ACCOUNT)
        assert (status, answer["__type"]) == (500, "KMSInternalException")
        assert "CiphertextBlob" not in answer

    async def test_record_is_whole_after_short_writes(
        self, rig: DispatchRig, controller: str, audit_file: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A write that takes a part of the line is continued; a torn line is ended before the next."""
        real = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: real(fd, data[:50]))
        await create(rig, controller)
        assert len(records(audit_file)) == 1
        calls = iter([20])

        def tear(fd: int, data: bytes) -> int:
            for size in calls:
                return real(fd, data[:size])
            raise OSError

        monkeypatch.setattr(os, "write", tear)
        status, _, _ = await rig.send("ListAliases", {}, controller, **ACCOUNT)
        assert status == 500
        monkeypatch.setattr(os, "write", real)
        await rig.send("ListAliases", {}, controller, **ACCOUNT)
        lines = read(audit_file).splitlines()
        assert len(lines) == 3
        assert json.loads(lines[2])["eventName"] == "ListAliases"

    async def test_caller_that_hangs_up_leaves_a_record(
        self, rig: DispatchRig, controller: str, audit_file: Path
    ) -> None:
        """A change whose caller is gone is recorded all the same."""
        await create(rig, controller)
        inside, go_on = threading.Event(), threading.Event()
        original = rig.rig.store.create_key

        def slow(record: Any) -> Any:
            inside.set()
            go_on.wait(60)
            return original(record)

        rig.rig.store.create_key = slow  # type: ignore[method-assign]
        answer = rig.handle(rig.request("CreateKey", {}, controller, **ACCOUNT))
        assert not isinstance(answer, HttpResponse)
        task = asyncio.ensure_future(answer)
        await asyncio.get_running_loop().run_in_executor(None, inside.wait)
        task.cancel()
        go_on.set()
        for _ in range(3000):
            if len(records(audit_file)) == 2:
                break
            await asyncio.sleep(0.02)
        assert [record["eventName"] for record in records(audit_file)] == ["CreateKey", "CreateKey"]

    async def test_long_rejected_members_stay_out(
        self, rig: DispatchRig, controller: str, audit_file: Path
    ) -> None:
        """A member that breaks its constraint can't bloat the record."""
        body = {"KeyId": "x" * 100_000, "KeySpec": "AES_256", "EncryptionContext": {"k": "v" * 60_000}}
        await rig.send("GenerateDataKeyWithoutPlaintext", body, controller, **ACCOUNT)
        assert len(read(audit_file)) < 2000


async def test_bug_becomes_an_internal_error(
    rig: DispatchRig, controller: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected exception is answered as internal; its text is neither answered nor logged."""

    def broken(*_: Any) -> Any:
        raise RuntimeError("CANARY")

    verb = table.Verb("ListAliases", broken, blocks=False)
    monkeypatch.setitem(
        __import__("datakeys.keyservice.server.wire", fromlist=["x"])._BY_TARGET,
        b"TrentService.ListAliases",
        verb,
    )
    with caplog.at_level(logging.DEBUG):
        status, answer, _ = await rig.send("ListAliases", {}, controller, **ACCOUNT)
    assert (status, answer["__type"]) == (500, "KMSInternalException")
    assert "CANARY" not in caplog.text + json.dumps(answer)
    assert any(getattr(record, "error_type", "") == "RuntimeError" for record in caplog.records)


async def test_bug_in_authentication_is_internal_too(
    rig: DispatchRig, controller: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process edge holds on the way to the principal as well."""
    monkeypatch.setattr(rig.authenticator, "_review", lambda _token: 1 / 0)
    status, answer, _ = await rig.send("ListAliases", {}, controller, **ACCOUNT)
    assert (status, answer["__type"]) == (500, "KMSInternalException")


@pytest.mark.parametrize("error_type", all_error_types(), ids=lambda error: error.__name__)
def test_every_error_has_an_answer(error_type: type) -> None:
    """Each error class becomes 400 or 500, its name, and a message."""
    answer = build_error_response(error_type("text"), "id")
    body = json.loads(answer.body)
    assert answer.status == error_type.http_status in (400, 500)  # type: ignore[attr-defined]
    assert body["__type"] == error_type.code  # type: ignore[attr-defined]
    assert isinstance(body["message"], str)


async def test_metrics(rig: DispatchRig, controller: str) -> None:
    """Requests are counted by operation and code, with their latencies; gauges are read when scraped."""
    await create(rig, controller)
    await rig.send("Decrypt", {}, "garbage")
    rig.metrics.add_gauge("answer", "Text.", lambda: 42.0)
    text = render(rig.metrics).decode()
    assert 'datakeys_keyservice_requests_total{code="OK",operation="CreateKey"} 1.0' in text
    assert 'code="UnrecognizedClientException",operation="Decrypt"} 1.0' in text
    assert 'datakeys_keyservice_request_duration_seconds_count{operation="CreateKey"} 1.0' in text
    assert "datakeys_keyservice_answer 42.0" in text
