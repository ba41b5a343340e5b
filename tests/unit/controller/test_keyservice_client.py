"""The client of the key service, against a real HTTPS server on the loopback address."""

import base64
import json
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from controller_fakes import KEY_ARN, MATERIAL
from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.contract.errors import (
    KeyDisabledError,
    KeyUnavailableError,
    KmsError,
    NotFoundError,
    ThrottlingError,
    UnrecognizedClientError,
)
from datakeys.controller.decisions.key_calls import KeyCall, KeyOperation
from datakeys.controller.keyservice_answers import ChangedKey, Grant, KeyChanges, KeyRotation
from datakeys.controller.keyservice_client import KeyServiceClient
from loopback_certificate import make_certificate

CONTEXT = {"tenant": "ü", "datakeys.dev/namespace": "shop"}
METADATA = {
    "KeyId": "id",
    "Arn": KEY_ARN,
    "KeyState": "Enabled",
    "CreationDate": 1.5,
    "CurrentKeyMaterialId": MATERIAL,
}


@dataclass
class Server:
    """What the key service was asked, and what it answers."""

    folder: Path
    answers: list[web.Response | str] = field(default_factory=list)
    requests: list[tuple[dict[str, str], Any]] = field(default_factory=list)
    connections: list[object] = field(default_factory=list)
    url: str = ""

    def will(self, answer: Any, status: int = 200) -> None:
        """Answer the next request with JSON."""
        self.answers.append(web.json_response(answer, status=status))

    def client(self) -> KeyServiceClient:
        """Return a client that trusts the server."""
        return KeyServiceClient(self.url, ca_file=self.folder / "ca.crt", token_file=self.folder / "token")

    async def handle(self, request: web.Request) -> web.Response:
        """Remember a request and answer it; ``hang up`` closes the connection without an answer."""
        self.requests.append((dict(request.headers), json.loads(await request.text())))
        self.connections.append(request.transport)
        answer = self.answers.pop(0)
        if isinstance(answer, str):
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        return answer


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    """Run an HTTPS server."""
    (tmp_path / "token").write_text("secret-token\n")
    server = Server(tmp_path)
    app = web.Application()
    app.router.add_post("/", server.handle)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=make_certificate(tmp_path))
    await site.start()
    host, port = runner.addresses[0][:2]
    server.url = f"https://{host}:{port}"
    yield server
    await runner.cleanup()


async def test_generate_sends_what_kms_wants(server: Server) -> None:
    """The call is AWS JSON 1.1 with the account in its header; the answer becomes an EncryptedDataKey."""
    server.will(
        {
            "CiphertextBlob": base64.b64encode(b"\x00\xff").decode(),
            "KeyId": KEY_ARN,
            "KeyMaterialId": MATERIAL,
        }
    )
    async with server.client() as client:
        encrypted = await client.generate_data_key_without_plaintext("shop", {"KeyId": "k"}, CONTEXT)
    assert (encrypted.ciphertext_blob, encrypted.key_arn) == (b"\x00\xff", KEY_ARN)
    assert encrypted.encryption_context == CONTEXT
    ((headers, body),) = server.requests
    assert headers["X-Amz-Target"] == "TrentService.GenerateDataKeyWithoutPlaintext"
    assert headers["Content-Type"] == "application/x-amz-json-1.1"
    assert headers["Authorization"] == "Bearer secret-token"
    assert headers["x-datakeys-account"] == "shop"
    assert "x-datakeys-object-name" not in headers
    assert body == {"KeyId": "k", "EncryptionContext": CONTEXT}


async def test_keys_are_made_for_an_object(server: Server) -> None:
    """CreateKey names the object it is made for, so that it can be repeated."""
    server.will({"KeyMetadata": METADATA})
    server.will({"KeyMetadata": {**METADATA, "KeyState": "PendingDeletion", "DeletionDate": 9}})
    async with server.client() as client:
        made = await client.create_key("shop", "main", {"Description": "d"})
        found = await client.describe_key("shop", "id")
    assert (made.arn, made.state, made.creation_date, made.deletion_date) == (KEY_ARN, "Enabled", 1.5, None)
    assert (found.state, found.deletion_date) == ("PendingDeletion", 9)
    assert server.requests[0][0]["x-datakeys-object-name"] == "main"


def _change(operation: KeyOperation) -> Callable[[KeyServiceClient], Any]:
    return lambda client: client.change_key("shop", "k", KeyCall(operation, {"X": 1}))


CALLS: dict[str, tuple[Callable[[KeyServiceClient], Any], dict[str, Any]]] = {
    **{operation.value: (_change(operation), {"KeyId": "k", "X": 1}) for operation in KeyOperation},
    "ScheduleKeyDeletion": (
        lambda client: client.schedule_key_deletion("shop", "k", 7),
        {"KeyId": "k", "PendingWindowInDays": 7},
    ),
    "CreateAlias": (
        lambda client: client.create_alias("shop", "alias/a", "k"),
        {"AliasName": "alias/a", "TargetKeyId": "k"},
    ),
    "UpdateAlias": (
        lambda client: client.update_alias("shop", "alias/a", "k"),
        {"AliasName": "alias/a", "TargetKeyId": "k"},
    ),
    "DeleteAlias": (lambda client: client.delete_alias("shop", "alias/a"), {"AliasName": "alias/a"}),
    "RevokeGrant": (
        lambda client: client.revoke_grant("shop", "k", "g"),
        {"KeyId": "k", "GrantId": "g"},
    ),
}


@pytest.mark.parametrize("operation", CALLS)
async def test_operations_without_an_answer(server: Server, operation: str) -> None:
    """An empty 200 is a success."""
    call, members = CALLS[operation]
    server.answers.append(web.Response(body=b""))
    async with server.client() as client:
        assert await call(client) is None
    ((headers, body),) = server.requests
    assert headers["X-Amz-Target"] == f"TrentService.{operation}"
    assert body == members


async def test_grant_has_id_and_token(server: Server) -> None:
    """CreateGrant's answer is read; one without its members is a failure of the service."""
    server.will({"GrantId": "g", "GrantToken": "t"})
    server.will({})
    async with server.client() as client:
        assert await client.create_grant("shop", "reader", {"KeyId": "k"}) == Grant("g", "t")
        with pytest.raises(KeyUnavailableError):
            await client.create_grant("shop", "reader", {"KeyId": "k"})


@pytest.mark.parametrize(
    ("status", "answer", "expected"),
    [
        (400, {"__type": "DisabledException", "message": "off"}, KeyDisabledError),
        (400, {"__type": "com.amazonaws.kms#NotFoundException", "Message": "gone"}, NotFoundError),
        (400, {"__type": "ThrottlingException:http://x", "message": ""}, ThrottlingError),
        (503, {"no": "type"}, KeyUnavailableError),
        (200, {"CiphertextBlob": "%%%"}, KeyUnavailableError),
        (200, {}, KeyUnavailableError),
        (200, ["a", "list"], KeyUnavailableError),
    ],
)
async def test_errors_become_contract_errors(
    server: Server, status: int, answer: Any, expected: type[KmsError]
) -> None:
    """Error names are KMS's own; what can't be read is a service that can't be reached."""
    server.will(answer, status)
    async with server.client() as client:
        with pytest.raises(expected):
            await client.generate_data_key_without_plaintext("shop", {}, {})


async def test_answer_that_is_not_json(server: Server) -> None:
    """A proxy's HTML is a service that can't be reached."""
    server.answers.append(web.Response(text="<html>", status=502))
    async with server.client() as client:
        with pytest.raises(KeyUnavailableError, match="502"):
            await client.describe_key("shop", "k")


async def test_metadata_that_is_not_whole(server: Server) -> None:
    """Half an answer is no key."""
    server.will({"KeyMetadata": {"KeyId": "id"}})
    async with server.client() as client:
        with pytest.raises(KeyUnavailableError):
            await client.describe_key("shop", "k")


async def test_closed_connection_is_tried_once_more(server: Server) -> None:
    """A kept connection that the other side closes doesn't fail the call."""
    server.answers.append("hang up")
    server.will({"KeyMetadata": METADATA})
    async with server.client() as client:
        assert (await client.describe_key("shop", "k")).arn == KEY_ARN
    server.answers += ["hang up", "hang up"]
    async with server.client() as client:
        with pytest.raises(KeyUnavailableError, match="closes the connection"):
            await client.describe_key("shop", "k")


async def test_a_refused_token_is_tried_on_another_connection(server: Server) -> None:
    """The replica's clock may be wrong: a kept connection to it would lead nowhere else for ever."""
    for _ in range(2):
        server.will({"__type": "UnrecognizedClientException", "message": "m"}, 400)
    for _ in range(2):
        server.will({"KeyMetadata": METADATA})
    async with server.client() as client:
        for _ in range(2):
            with pytest.raises(UnrecognizedClientError):
                await client.describe_key("shop", "k")
        for _ in range(2):
            await client.describe_key("shop", "k")
    first, again, other, kept = server.connections
    assert first is again
    assert other is not first
    assert kept is not first


async def test_a_rotation_is_never_sent_twice(server: Server) -> None:
    """Whether the first one has rotated can't be known: the caller finds out before it tries again."""
    server.answers += ["hang up", "hang up"]
    async with server.client() as client:
        with pytest.raises(KeyUnavailableError, match="closes the connection"):
            await client.change_key("shop", "k", KeyCall(KeyOperation.ROTATE_KEY_ON_DEMAND))
    assert len(server.requests) == 1


async def test_re_encryption_names_the_same_key_and_context_on_both_sides(server: Server) -> None:
    """What comes back is the same data key under the key's current material."""
    server.will(
        {
            "CiphertextBlob": base64.b64encode(b"new").decode(),
            "KeyId": KEY_ARN,
            "SourceKeyMaterialId": MATERIAL,
            "DestinationKeyMaterialId": "cd" * 32,
        }
    )
    old = EncryptedDataKey(b"old", KEY_ARN, MATERIAL, CONTEXT)
    async with server.client() as client:
        new = await client.re_encrypt("shop", old)
    assert new == EncryptedDataKey(b"new", KEY_ARN, "cd" * 32, CONTEXT)
    ((headers, body),) = server.requests
    assert (headers["X-Amz-Target"], headers["x-datakeys-account"]) == ("TrentService.ReEncrypt", "shop")
    assert body == {
        "CiphertextBlob": base64.b64encode(b"old").decode(),
        "SourceKeyId": KEY_ARN,
        "SourceEncryptionContext": CONTEXT,
        "DestinationKeyId": KEY_ARN,
        "DestinationEncryptionContext": CONTEXT,
    }


async def test_nobody_there() -> None:
    """Without a token, a CA or a server the key service can't be reached; nothing else is raised."""
    client = KeyServiceClient("https://127.0.0.1:1", ca_file=Path("/nope"), token_file=Path("/nope"))
    async with client:
        with pytest.raises(KeyUnavailableError, match="FileNotFoundError"):
            await client.describe_key("shop", "k")


async def test_unknown_certificate_is_refused(server: Server, tmp_path: Path) -> None:
    """A server that the CA file doesn't vouch for gets no token."""
    other = tmp_path / "other"
    other.mkdir()
    make_certificate(other)
    client = KeyServiceClient(server.url, ca_file=other / "ca.crt", token_file=tmp_path / "token")
    async with client:
        with pytest.raises(KeyUnavailableError):
            await client.describe_key("shop", "k")
    assert server.requests == []


async def test_new_token_and_new_authority_are_noticed(server: Server, tmp_path: Path) -> None:
    """Files that are replaced are read again, without a restart."""
    trusted = (tmp_path / "ca.crt").read_text()
    other = tmp_path / "other"
    other.mkdir()
    make_certificate(other)
    (tmp_path / "ca.crt").write_text((other / "ca.crt").read_text())
    async with server.client() as client:
        with pytest.raises(KeyUnavailableError):
            await client.describe_key("shop", "k")
        (tmp_path / "ca.crt").write_text(trusted + "\n")
        (tmp_path / "token").write_text("another-token")
        server.will({"KeyMetadata": METADATA})
        await client.describe_key("shop", "k")
    assert server.requests[0][0]["Authorization"] == "Bearer another-token"


async def test_client_outside_its_context_is_a_mistake(server: Server) -> None:
    """Forgetting to open the client is a programmer's error, not an outage."""
    with pytest.raises(RuntimeError):
        await server.client().describe_key("shop", "k")


def test_client_has_no_operation_that_gives_plaintext() -> None:
    """The controller can't ask for plaintext: no method decrypts, and none generates a plaintext key."""
    methods = [name for name in dir(KeyServiceClient) if not name.startswith("_")]
    assert [name for name in methods if "decrypt" in name] == []
    assert [name for name in methods if name.startswith("generate")] == [
        "generate_data_key_without_plaintext"
    ]


async def test_settings_are_read(server: Server) -> None:
    """Tags, policy and rotation come in the form in which the spec has them."""
    server.will({"Tags": [{"TagKey": "team", "TagValue": "shop"}], "Truncated": False})
    server.will({"Policy": "{}", "PolicyName": "default"})
    server.will({"KeyRotationEnabled": True, "RotationPeriodInDays": 90, "NextRotationDate": 5.5})
    server.will({"KeyRotationEnabled": False})
    async with server.client() as client:
        assert await client.fetch_tags("shop", "k") == {"team": "shop"}
        assert await client.fetch_policy("shop", "k") == "{}"
        assert await client.fetch_rotation("shop", "k") == KeyRotation(
            enabled=True, period_days=90, next_date=5.5
        )
        assert await client.fetch_rotation("shop", "k") == KeyRotation(enabled=False)
    targets = [headers["X-Amz-Target"] for headers, _ in server.requests]
    assert targets == [
        "TrentService.ListResourceTags",
        "TrentService.GetKeyPolicy",
        "TrentService.GetKeyRotationStatus",
        "TrentService.GetKeyRotationStatus",
    ]


async def test_changes_are_asked_for_no_account(server: Server) -> None:
    """The controller's own verb has its own target, waits 30 seconds and acts for no account."""
    key = {"Account": "shop", "ObjectName": "main", "KeyId": "k"}
    server.will({"Keys": [key], "Cursor": "e.2", "Resync": False})
    async with server.client() as client:
        changes = await client.watch_keys("e.1")
    assert changes == KeyChanges((ChangedKey("shop", "main", "k"),), "e.2", resync=False)
    ((headers, body),) = server.requests
    assert headers["X-Amz-Target"] == "DatakeysController.WatchKeys"
    assert "x-datakeys-account" not in headers
    assert body == {"Cursor": "e.1", "WaitSeconds": 30}


@pytest.mark.parametrize("answer", [{}, {"Keys": [{}], "Cursor": "", "Resync": False}, {"Keys": 5}])
async def test_unreadable_changes_are_tried_again(server: Server, answer: Any) -> None:
    """An answer without the members is a service that can't be reached."""
    server.will(answer)
    async with server.client() as client:
        with pytest.raises(KeyUnavailableError):
            await client.watch_keys("")
