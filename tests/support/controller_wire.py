"""Calls of the key service's API beside the controller, as anybody with the right to do so makes them.

Zone: tests.
"""

import http.client
import json
import socket
import ssl
from dataclasses import dataclass, field
from typing import Any

from controller_rig import Rig
from datakeys.contract.identity import AUDIENCE, HEADER_ACCOUNT
from waiting import WAIT_SECONDS

Json = dict[str, Any]


def build_context(namespace: str, request: str = "orders", account: str = "app") -> Json:
    """Return the encryption context that binds a request's data key to its pods."""
    return {
        "datakeys.dev/namespace": namespace,
        "datakeys.dev/request": request,
        "datakeys.dev/service-account": account,
    }


class RefusedError(Exception):
    """The key service has refused a call; ``code`` is KMS's name for it."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code


class _Loopback(http.client.HTTPSConnection):
    """There is no name service: connects to the loopback address, checks the certificate by the name."""

    tls: ssl.SSLContext

    def connect(self) -> None:
        """Open the connection."""
        raw = socket.create_connection(("127.0.0.1", self.port), self.timeout)
        self.sock = self.tls.wrap_socket(raw, server_hostname=self.host)


@dataclass
class Wire:
    """Calls over TLS in the name of a namespace, with a token of the controller's ServiceAccount.

    With a ``token`` and no ``namespace``, whoever the token is of calls for himself.
    """

    rig: Rig
    namespace: str
    token: str = field(default="", repr=False)

    def call(self, operation: str, **members: Any) -> Json:
        """Return the answer of an operation.

        Raises:
            RefusedError: The key service refuses.
        """
        self.token = self.token or self.rig.token("datakeys-controller", AUDIENCE)
        headers = {
            "X-Amz-Target": f"TrentService.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
            "Authorization": f"Bearer {self.token}",
        }
        if self.namespace:
            headers[HEADER_ACCOUNT] = self.namespace
        context = ssl.create_default_context(cafile=str(self.rig.folder / "ca.crt"))
        connection = _Loopback(
            self.rig.keyservice_host, self.rig.keyservice_port, context=context, timeout=WAIT_SECONDS
        )
        connection.tls = context
        try:
            connection.request("POST", "/", json.dumps(members).encode(), headers)
            response = connection.getresponse()
            answer: Json = json.loads(response.read() or b"{}")
        finally:
            connection.close()
        if response.status != 200:
            raise RefusedError(str(answer.get("__type")), str(answer.get("message")))
        return answer

    def generate(self, key_id: str, namespace: str) -> str:
        """Return a new encrypted data key of a namespace, in base64."""
        answer = self.call(
            "GenerateDataKeyWithoutPlaintext",
            KeyId=key_id,
            KeySpec="AES_256",
            EncryptionContext=build_context(namespace),
        )
        return str(answer["CiphertextBlob"])
