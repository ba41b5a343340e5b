"""Any operation with any JSON at a key service in local mode: no internal error, always the model's answer.

The first line is the operation, or the whole X-Amz-Target; then comes the body.
"""

import asyncio
import base64
import json
import os
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final
from unittest import mock

from datakeys.contract.errors import KmsError
from datakeys.contract.key_types import KeySpec
from datakeys.keyservice.audit.audit_log import AuditLog
from datakeys.keyservice.authz.principal import Principal, PrincipalKind
from datakeys.keyservice.authz.rbac import FixedAuthorizer
from datakeys.keyservice.authz.realm import Realm
from datakeys.keyservice.local.callers import SignatureCallers
from datakeys.keyservice.material.private_key import RSA_BITS, PrivateKey
from datakeys.keyservice.material.root_key import RootKey
from datakeys.keyservice.operations.call import Service
from datakeys.keyservice.operations.keyring import Keyring
from datakeys.keyservice.server.dispatch import Dispatcher
from datakeys.keyservice.server.http import HttpRequest, HttpResponse
from datakeys.keyservice.server.metrics import RequestMetrics
from datakeys.keyservice.store.memory import MemoryStore
from datakeys.keyservice.store.records import Record
from fuzz.inline_executor import InlineExecutor
from fuzz.target import ROOT_SECRET, FixedRandom, Target, require, split_line
from keyservice_rig import Clock
from kms_cases import CASES, EXTERNAL, KEY_TYPES, POLICY
from kms_endpoint import ACCOUNT, REGION
from kms_model import (
    allowed_errors,
    check_output,
    input_members,
    operation_names,
    output_members,
    to_wire,
)

_CASES_PER_OPERATION: Final = 3
_EPHEMERAL: Final = frozenset(
    {"Description", "Tags", "Policy", "MultiRegion", "BypassPolicyLockoutSafetyCheck"}
)
_generate = PrivateKey.generate


class _Store(MemoryStore):
    """Notices that it was changed."""

    def __init__(self, records: tuple[Record, ...]) -> None:
        super().__init__()
        self._commit(puts=records)
        self.changed = False

    def _commit(self, *, puts: Any = (), drops: Any = ()) -> None:  # noqa: ANN401 - as the base class
        self.changed = True
        super()._commit(puts=puts, drops=drops)


class KmsOperationTarget(Target):
    """``Dispatcher.handle`` on a key service that has a key of every kind, anew for each input."""

    has_json = True

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._records: tuple[Record, ...] = ()
        self._random = FixedRandom()
        self._audit_fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        self._audit = AuditLog(REGION, fd=self._audit_fd)
        self._keys: dict[str, str] = {}
        with mock.patch.object(PrivateKey, "generate", _generate_fast):
            self._renew()
            self._make_keys()
        self._records = tuple(self._store.list_keys(ACCOUNT)) + tuple(self._store.list_aliases(ACCOUNT))
        self._renew()
        self.words = (*operation_names(), *_list_members(), *self._keys.values(), "alias/first", POLICY)

    def _renew(self) -> None:
        """Forget what the last input has changed."""
        self._store = _Store(self._records)
        root_key = RootKey(ROOT_SECRET)
        keyring = Keyring(root_key)
        self._store.index.listeners.append(keyring.forget)
        service = Service(
            Realm(REGION, "aws"),
            self._store,
            root_key,
            keyring,
            Clock(),
            self._random,
            authorizer=FixedAuthorizer(allowed=True),
        )
        arn = service.realm.root_arn(ACCOUNT)
        root = Principal(PrincipalKind.ACCOUNT_ROOT, ACCOUNT, "", arn=arn)
        callers = SignatureCallers(root, REGION, None, Clock(), unsigned_allowed=True)
        self._dispatcher = Dispatcher(service, callers, self._audit, RequestMetrics(), InlineExecutor())

    def _make_keys(self) -> None:
        kinds = [{}, EXTERNAL, *({"KeySpec": spec, "KeyUsage": usage} for spec, usage in KEY_TYPES)]
        for kind in kinds:
            arn = self._call("CreateKey", **kind)["KeyMetadata"]["Arn"]
            self._keys[_describe(kind)] = arn
        self._call("CreateAlias", AliasName="alias/first", TargetKeyId=self._keys[_describe({})])

    def close(self) -> None:
        """Give back what it holds."""
        self._loop.close()
        os.close(self._audit_fd)

    def seeds(self) -> Iterator[bytes]:
        """Return good requests for every operation, on the keys that are there in each process."""
        for operation, cases in CASES.items():
            for case in cases[:_CASES_PER_OPERATION]:
                with mock.patch.object(PrivateKey, "generate", _generate_fast):
                    members = to_wire(operation, case.build(self._call_on_fixed_key))
                self._renew()
                yield f"{operation}\n".encode() + json.dumps(members).encode()
        yield b"DatakeysController.WatchKeys\n{}"
        yield b'TrentService.Decrypt\n{"CiphertextBlob":"AQ=="}'

    def run(self, data: bytes) -> None:
        """Send the body to the operation."""
        line, body = split_line(data)
        status, answer = self._send(line, body)
        if self._store.changed:
            self._renew()
        require(status in (200, 400), "an internal error", line, status, answer)
        operation = line.removeprefix("TrentService.")
        known = operation in operation_names()
        if status == 200:  # noqa: PLR2004 - HTTP
            require(known and not check_output(operation, answer), "not the model's answer", line, answer)
        elif known:
            code = answer.get("__type")
            allowed = allowed_errors(operation) | {"UnsupportedOperationException"}
            require(code in allowed, "an error of another operation", line, code)

    def _send(self, target: str, body: bytes) -> tuple[int, dict[str, Any]]:
        whole = target if "." in target else f"TrentService.{target}"
        headers = {b"x-amz-target": whole.encode("latin-1")}
        request = HttpRequest("POST", b"/", headers, body, "192.0.2.1:5000")
        with mock.patch.object(PrivateKey, "generate", _generate_fast):
            answer = self._loop.run_until_complete(self._answer(request))
        return answer.status, json.loads(answer.body) if answer.body != b"null" else {}

    async def _answer(self, request: HttpRequest) -> HttpResponse:
        answer = self._dispatcher.handle(request)
        return answer if isinstance(answer, HttpResponse) else await answer

    def _call(self, operation: str, **members: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        status, answer = self._send(operation, json.dumps(to_wire(operation, members)).encode())
        if status != 200:  # noqa: PLR2004 - HTTP
            raise KmsError(f"{operation}: {answer}")
        blobs = {name for name, shape in output_members(operation).items() if shape.type_name == "blob"}
        return {name: base64.b64decode(it) if name in blobs else it for name, it in answer.items()}

    def _call_on_fixed_key(self, operation: str, **members: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
        """Call an operation; a new key is one of those that are always there."""
        if operation == "CreateKey":
            arn = self._keys[_describe({k: v for k, v in members.items() if k not in _EPHEMERAL})]
            if "Tags" in members:
                self._call("TagResource", KeyId=arn, Tags=members["Tags"])
            return {"KeyMetadata": {"Arn": arn, "KeyId": arn.rpartition("/")[2]}}
        return self._call(operation, **members)


def _describe(members: Mapping[str, Any]) -> str:
    return json.dumps(members, sort_keys=True)


def _list_members() -> list[str]:
    return sorted({name for operation in operation_names() for name in input_members(operation)})


@cache
def _make_private_key(key_spec: KeySpec) -> PrivateKey:
    return _generate(key_spec)


def _generate_fast(key_spec: KeySpec) -> PrivateKey:
    """Return the same key each time, for RSA of 2048 bits: making one takes seconds and isn't the point."""
    PrivateKey.require_supported(key_spec)
    return _make_private_key(KeySpec.RSA_2048 if key_spec in RSA_BITS else key_spec)


def build() -> KmsOperationTarget:
    """Return the target."""
    return KmsOperationTarget()
