"""The controller's client of the key service: it has no operation that gives plaintext.

Zone: ciphertext only. Source: AWS KMS JSON 1.1 protocol; the headers are in ``datakeys.contract.identity``.
"""

import base64
from collections.abc import Mapping
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, Self

import orjson

from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.contract.errors import KeyUnavailableError, KmsError, UnrecognizedClientError, error_from_code
from datakeys.contract.identity import HEADER_ACCOUNT, HEADER_OBJECT_NAME
from datakeys.controller import metrics
from datakeys.controller.decisions.key_calls import KeyCall, KeyOperation
from datakeys.controller.fresh_file import FreshFile, FreshTlsContext
from datakeys.controller.http_client import ClosedError, HttpClient
from datakeys.controller.keyservice_answers import (
    Grant,
    KeyChanges,
    KeyMetadata,
    KeyRotation,
    parse_changes,
    parse_grant,
    parse_metadata,
    parse_policy,
    parse_rotation,
    parse_tags,
)

TIMEOUT_SECONDS: Final = 10
#: How long the key service may keep a call of ``watch_keys``, in seconds.
WATCH_SECONDS: Final = 30
_IDLE_SECONDS: Final = 30.0
_TARGET: Final = "TrentService."
_OWN_TARGET: Final = "DatakeysController."
#: A kept connection may have been closed by the other side just now; an operation may be repeated then.
_ATTEMPTS: Final = 2
#: All but these.
_NOT_REPEATED: Final = frozenset({KeyOperation.ROTATE_KEY_ON_DEMAND})


class KeyServiceClient:
    """A pool of connections to the key service; every call acts for one account (namespace)."""

    def __init__(self, url: str, *, ca_file: Path, token_file: Path) -> None:
        self._token = FreshFile(token_file)
        self._http = HttpClient(url, FreshTlsContext(ca_file).get, idle_seconds=_IDLE_SECONDS)
        #: The last call's token was refused.
        self._refused = False

    async def __aenter__(self) -> Self:
        """Open the pool."""
        await self._http.__aenter__()
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close the pool."""
        await self._http.__aexit__()

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
        return _parse_encrypted(answer, "KeyMaterialId", context)

    async def re_encrypt(self, account: str, encrypted: EncryptedDataKey) -> EncryptedDataKey:
        """Return the same data key under the current material of the same KMS key.

        Raises:
            KmsError: The key service refuses or can't be reached.
        """
        context = dict(encrypted.encryption_context)
        parameters = {
            "CiphertextBlob": base64.b64encode(encrypted.ciphertext_blob).decode(),
            "SourceKeyId": encrypted.key_arn,
            "SourceEncryptionContext": context,
            "DestinationKeyId": encrypted.key_arn,
            "DestinationEncryptionContext": context,
        }
        answer = await self._call("ReEncrypt", account, parameters)
        return _parse_encrypted(answer, "DestinationKeyMaterialId", context)

    async def create_key(self, account: str, object_name: str, parameters: Mapping[str, Any]) -> KeyMetadata:
        """Return the key of an object: a new one, or the one made for the same name before.

        Raises:
            KmsError: The key service refuses or can't be reached.
        """
        answer = await self._call("CreateKey", account, parameters, object_name=object_name)
        return parse_metadata(answer)

    async def describe_key(self, account: str, key_id: str) -> KeyMetadata:
        """Return a key as it is.

        Raises:
            KmsError: The key service refuses or can't be reached.
        """
        return parse_metadata(await self._call("DescribeKey", account, {"KeyId": key_id}))

    async def change_key(self, account: str, key_id: str, call: KeyCall) -> None:
        """Make one call that changes a key.

        All may be repeated but RotateKeyOnDemand: if it ends without an answer, it may have rotated.

        Raises:
            KmsError: The key service refuses or can't be reached.
        """
        await self._call(call.operation.value, account, {"KeyId": key_id, **call.members})

    async def fetch_tags(self, account: str, key_id: str) -> dict[str, str]:
        """Return a key's tags; a key has 50 at most.

        Raises:
            KmsError: The key service refuses or can't be reached.
        """
        return parse_tags(await self._call("ListResourceTags", account, {"KeyId": key_id}))

    async def fetch_policy(self, account: str, key_id: str) -> str:
        """Return the text of a key's policy.

        Raises:
            KmsError: The key service refuses or can't be reached.
        """
        return parse_policy(await self._call("GetKeyPolicy", account, {"KeyId": key_id}))

    async def fetch_rotation(self, account: str, key_id: str) -> KeyRotation:
        """Return whether a key is rotated automatically.

        Raises:
            KmsError: The key service refuses or can't be reached.
        """
        return parse_rotation(await self._call("GetKeyRotationStatus", account, {"KeyId": key_id}))

    async def watch_keys(self, cursor: str) -> KeyChanges:
        """Return which keys have changed since a cursor, or wait up to 30 seconds for a change.

        Raises:
            KmsError: The key service refuses or can't be reached.
        """
        parameters = {"Cursor": cursor, "WaitSeconds": WATCH_SECONDS}
        return parse_changes(await self._call("WatchKeys", None, parameters))

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
        return parse_grant(await self._call("CreateGrant", account, parameters, object_name=object_name))

    async def revoke_grant(self, account: str, key_id: str, grant_id: str) -> None:
        """Revoke a grant."""
        await self._call("RevokeGrant", account, {"KeyId": key_id, "GrantId": grant_id})

    async def _call(
        self,
        operation: str,
        account: str | None,
        parameters: Mapping[str, Any],
        *,
        object_name: str | None = None,
    ) -> dict[str, Any]:
        try:
            answer = await self._send(operation, account, parameters, object_name)
        except KmsError as error:
            metrics.KEYSERVICE_CALLS.labels(operation, error.code).inc()
            self._refused = isinstance(error, UnrecognizedClientError)
            raise
        self._refused = False
        metrics.KEYSERVICE_CALLS.labels(operation, "OK").inc()
        return answer

    async def _send(
        self, operation: str, account: str | None, parameters: Mapping[str, Any], object_name: str | None
    ) -> dict[str, Any]:
        body = orjson.dumps(parameters)
        attempts = 1 if operation in _NOT_REPEATED else _ATTEMPTS
        for attempt in range(1, attempts + 1):
            try:
                return await self._post(operation, account, body, object_name)
            except ClosedError:
                if attempt == attempts:
                    raise KeyUnavailableError("the key service closes the connection") from None
            except OSError as error:
                raise KeyUnavailableError(
                    f"the key service can't be reached ({type(error).__name__})"
                ) from error
        raise AssertionError  # the last attempt has returned or raised

    async def _post(
        self, operation: str, account: str | None, body: bytes, object_name: str | None
    ) -> dict[str, Any]:
        headers = {
            "Content-Type": "application/x-amz-json-1.1",
            "X-Amz-Target": (_OWN_TARGET if account is None else _TARGET) + operation,
            "Authorization": f"Bearer {self._token.read()}",
        }
        seconds = TIMEOUT_SECONDS
        if account is None:
            seconds += WATCH_SECONDS
        else:
            headers[HEADER_ACCOUNT] = account
        if object_name is not None:
            headers[HEADER_OBJECT_NAME] = object_name
        if self._refused:
            # That replica's clock may be wrong: the next connection may lead to another.
            headers["Connection"] = "close"
        return _parse_answer(*await self._http.call("POST", "/", headers, body, seconds))


def _parse_encrypted(
    answer: Mapping[str, Any], material_member: str, context: Mapping[str, str]
) -> EncryptedDataKey:
    try:
        return EncryptedDataKey(
            ciphertext_blob=base64.b64decode(answer["CiphertextBlob"], validate=True),
            key_arn=answer["KeyId"],
            key_material_id=answer[material_member],
            encryption_context=context,
        )
    except (KeyError, ValueError, TypeError):
        raise KeyUnavailableError("the key service's answer can't be read") from None


def _parse_answer(status: int, raw: bytes) -> dict[str, Any]:
    try:
        answer = orjson.loads(raw) if raw else {}
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
