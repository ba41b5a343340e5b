"""The few calls that the tool itself makes to an API server, with the owner's certificate."""

import http.client
import json
import ssl
from typing import Any

from testcluster.layout import ClusterLayout
from testcluster.progress import TestclusterError

_PATIENCE_SECONDS = 30.0


class KubernetesApi:
    """One connection per call: the tool makes few, and the server may be restarted in between."""

    def __init__(self, layout: ClusterLayout) -> None:
        self._address = layout.network.node_address
        self._tls = ssl.create_default_context(cafile=layout.certificates / "ca.crt")
        self._tls.load_cert_chain(layout.certificates / "admin.crt", layout.certificates / "admin.key")

    def get(self, path: str) -> Any:  # noqa: ANN401 - JSON of many kinds
        """Return the object at a path, or None where there is none."""
        status, body = self._call("GET", path)
        if status == http.HTTPStatus.NOT_FOUND:
            return None
        return json.loads(_checked(status, body, path))

    def apply(self, path: str, body: dict[str, Any]) -> None:
        """Create an object or bring it to this form (server-side apply)."""
        path = f"{path}?fieldManager=testcluster&force=true"
        _checked(*self._call("PATCH", path, json.dumps(body), "application/apply-patch+yaml"), path)

    def is_ready(self) -> bool:
        """Whether the API server has done its first work and reads from its store."""
        try:
            answers = [self._call("GET", path)[0] for path in ("/readyz", "/api/v1/namespaces/default")]
        except (OSError, http.client.HTTPException):
            return False
        return all(status == http.HTTPStatus.OK for status in answers)

    def _call(self, method: str, path: str, body: str | None = None, kind: str = "") -> tuple[int, bytes]:
        connection = http.client.HTTPSConnection(
            self._address, 6443, context=self._tls, timeout=_PATIENCE_SECONDS
        )
        try:
            connection.request(method, path, body, {"Content-Type": kind} if kind else {})
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()


def _checked(status: int, body: bytes, path: str) -> bytes:
    if status >= http.HTTPStatus.BAD_REQUEST:
        raise TestclusterError(f"{path}: HTTP {status}: {body.decode(errors='replace')[:500]}")
    return body
