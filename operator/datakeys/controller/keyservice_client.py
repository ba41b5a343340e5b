"""The controller's client of the key service: it has no operation that gives plaintext.

Zone: ciphertext only. Source: AWS KMS JSON 1.1 protocol; the headers are in ``datakeys.contract.identity``.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

import aiohttp

from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.contract.errors import KeyUnavailableError, KmsError, error_from_code
from datakeys.contract.identity import HEADER_ACCOUNT, HEADER_OBJECT_NAME
from datakeys.controller import metrics
from datakeys.controller.fresh_file import FreshFile, FreshTlsContext

TIMEOUT_SECONDS: Final = 10
_TARGET: Final = "TrentService."
#: A kept connection may have been closed by the other side just now; every operation here is safe to repeat.
_ATTEMPTS: Final = 2


@dataclass(frozen=True, slots=True)
class KeyMetadata:
    """A KMS key as CreateKey describes it; dates in seconds since the epoch."""

    key_id: str
    arn: str
    state: str
    creation_date: float
    deletion_date: float | None
    current_key_material_id: str | None


@dataclass(frozen=True, slots=True)
class Grant:
    """What CreateGrant returns."""

    grant_id: str
    grant_token: str


class KeyServiceClient:
    """A pool of connections to the key service; every call acts for one account (namespace)."""

    def __init__(self, url: str, *, ca_file: Path, token_file: Path) -> None:
        self._url = url.rstrip("/") + "/"
        self._tls = FreshTlsContext(ca_file)
        self._token = FreshFile(token_file)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        """Open the pool."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
        timeout = aiohttp.ClientTimeout(total=TIMEOUT_SECONDS, sock_connect=TIMEOUT_SECONDS / 2)
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the pool."""
        if self._session is not None:
            await self._session.close()

    async def generate_data_key_without_plaintext(
        self, account: str, parameters: Mapping[str, Any], context: Mapping[str, str]
    ) -> EncryptedDataKey:
        """Return a new encrypted data key.

        Args:
            account: The namespace that is acted for.
            parameters: KeyId, KeySpec or NumberOfBytes, GrantTokens, DryRun.
            context: The full encryption context.

        Raises:
            KmsError: The key service refuses or can't be reached.
        """
        answer = await self._call(
            "GenerateDataKeyWithoutPlaintext", account, {**parameters, "EncryptionContext": dict(context)}
        )
        try:
            return EncryptedDataKey(
                ciphertext_blob=base64.b64decode(answer["CiphertextBlob"], validate=True),
                key_arn=answer["KeyId"],
                key_material_id=answer["KeyMaterialId"],
                encryption_context=context,
            )
        except (KeyError, ValueError, TypeError):
            raise KeyUnavailableError("the key service's answer can't be read") from None

    async def create_key(self, account: str, object_name: str, parameters: Mapping[str, Any]) -> KeyMetadata:
        """Return the key of an object: a new one, or the one made for the same name before.

        Raises:
            KmsError: The key service refuses or can't be reached.
        """
        answer = await self._call("CreateKey", account, parameters, object_name=object_name)
        return _parse_metadata(answer)

    async def describe_key(self, account: str, key_id: str) -> KeyMetadata:
        """Return a key as it is.

        Raises:
            KmsError: The key service refuses or can't be reached.
        """
        return _parse_metadata(await self._call("DescribeKey", account, {"KeyId": key_id}))

    async def enable_key(self, account: str, key_id: str) -> None:
        """Enable a key; an enabled key stays as it is."""
        await self._call("EnableKey", account, {"KeyId": key_id})

    async def disable_key(self, account: str, key_id: str) -> None:
        """Disable a key; a disabled key stays as it is."""
        await self._call("DisableKey", account, {"KeyId": key_id})

    async def schedule_key_deletion(self, account: str, key_id: str, pending_window_days: int) -> None:
        """Schedule a key's deletion."""
        await self._call(
            "ScheduleKeyDeletion", account, {"KeyId": key_id, "PendingWindowInDays": pending_window_days}
        )

    async def create_alias(self, account: str, alias_name: str, target_key_id: str) -> None:
        """Create an alias."""
        await self._call("CreateAlias", account, {"AliasName": alias_name, "TargetKeyId": target_key_id})

    async def update_alias(self, account: str, alias_name: str, target_key_id: str) -> None:
        """Point an alias to a key."""
        await self._call("UpdateAlias", account, {"AliasName": alias_name, "TargetKeyId": target_key_id})

    async def delete_alias(self, account: str, alias_name: str) -> None:
        """Delete an alias; its key is left alone."""
        await self._call("DeleteAlias", account, {"AliasName": alias_name})

    async def create_grant(self, account: str, object_name: str, parameters: Mapping[str, Any]) -> Grant:
        """Return the grant of an object: a new one, or the one made for the same name before."""
        answer = await self._call("CreateGrant", account, parameters, object_name=object_name)
        try:
            return Grant(answer["GrantId"], answer["GrantToken"])
        except KeyError:
            raise KeyUnavailableError("the key service's answer can't be read") from None

    async def revoke_grant(self, account: str, key_id: str, grant_id: str) -> None:
        """Revoke a grant."""
        await self._call("RevokeGrant", account, {"KeyId": key_id, "GrantId": grant_id})

    async def _call(
        self, operation: str, account: str, parameters: Mapping[str, Any], *, object_name: str | None = None
    ) -> dict[str, Any]:
        try:
            answer = await self._send(operation, account, parameters, object_name)
        except KmsError as error:
            metrics.KEYSERVICE_CALLS.labels(operation, error.code).inc()
            raise
        metrics.KEYSERVICE_CALLS.labels(operation, "OK").inc()
        return answer

    async def _send(
        self, operation: str, account: str, parameters: Mapping[str, Any], object_name: str | None
    ) -> dict[str, Any]:
        body = json.dumps(parameters).encode()
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                return await self._post(operation, account, body, object_name)
            except (aiohttp.ServerDisconnectedError, ConnectionResetError):
                if attempt == _ATTEMPTS:
                    raise KeyUnavailableError("the key service closes the connection") from None
            except (aiohttp.ClientError, TimeoutError, OSError) as error:
                raise KeyUnavailableError(
                    f"the key service can't be reached ({type(error).__name__})"
                ) from error
        raise AssertionError  # the last attempt has returned or raised

    async def _post(
        self, operation: str, account: str, body: bytes, object_name: str | None
    ) -> dict[str, Any]:
        if self._session is None:
            raise RuntimeError("KeyServiceClient is used outside its context")
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": _TARGET + operation,
            "Authorization": f"Bearer {self._token.read()}",
            HEADER_ACCOUNT: account,
        }
        if object_name is not None:
            headers[HEADER_OBJECT_NAME] = object_name
        async with self._session.post(
            self._url, data=body, headers=headers, ssl=self._tls.get(), allow_redirects=False
        ) as response:
            raw = await response.read()
        return _parse_answer(response.status, raw)


def _parse_answer(status: int, raw: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(raw) if raw else {}
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise KeyUnavailableError(f"the key service's answer can't be read (HTTP {status})")
    if status == HTTPStatus.OK:
        return answer
    code = answer.get("__type")
    if not isinstance(code, str):
        raise KeyUnavailableError(f"the key service answers HTTP {status}")
    raise error_from_code(code, str(answer.get("message") or answer.get("Message") or ""))


def _parse_metadata(answer: Mapping[str, Any]) -> KeyMetadata:
    try:
        metadata = answer["KeyMetadata"]
        return KeyMetadata(
            key_id=metadata["KeyId"],
            arn=metadata["Arn"],
            state=metadata["KeyState"],
            creation_date=float(metadata["CreationDate"]),
            deletion_date=metadata.get("DeletionDate"),
            current_key_material_id=metadata.get("CurrentKeyMaterialId"),
        )
    except (KeyError, TypeError, ValueError):
        raise KeyUnavailableError("the key service's answer can't be read") from None
