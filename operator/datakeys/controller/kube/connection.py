"""Where the API server is and how this process proves who it is.

Zone: tokens pass through, nothing logs them.
"""

import dataclasses
import os
import resource
import ssl
from pathlib import Path

import kopf

from datakeys.controller.fresh_file import FreshFile

_TOKEN_FILE = Path("/var/run/secrets/kubernetes.io/serviceaccount/token")


class ClusterConnection:
    """The API server's address and this process's credentials, for kopf and for ``KubeApi`` alike."""

    def __init__(self, info: kopf.ConnectionInfo, token_file: Path | None = None) -> None:
        self._info = info
        self._token = FreshFile(token_file) if token_file else None
        self.server = info.server.rstrip("/")
        self.tls: ssl.SSLContext = info.as_ssl_context()

    def headers(self) -> dict[str, str]:
        """Return the credentials as headers; a token file is read again when it has changed."""
        if self._token is not None:
            return {"Authorization": f"Bearer {self._token.read()}"}
        return self._info.as_http_headers()

    def login_info(self) -> kopf.ConnectionInfo:
        """Return the credentials as they are now, for kopf, which asks again when they are refused."""
        if self._token is not None:
            return dataclasses.replace(self._info, token=self._token.read())
        return self._info


def load_connection() -> ClusterConnection:
    """Find the API server: an explicit kubeconfig first, else the pod's ServiceAccount.

    Raises:
        kopf.LoginError: There is neither.
    """
    _allow_many_watches()
    settings = kopf.OperatorSettings()
    if os.environ.get("KUBECONFIG"):
        info = kopf.login_with_kubeconfig(settings=settings)
        if info is not None:
            return ClusterConnection(info)
    info = kopf.login_with_service_account(settings=settings)
    if info is None:
        raise kopf.LoginError("neither KUBECONFIG nor a ServiceAccount token is there")
    host, port = os.environ.get("KUBERNETES_SERVICE_HOST"), os.environ.get("KUBERNETES_SERVICE_PORT")
    if host:  # saves a name lookup that can fail
        bracketed = f"[{host}]" if ":" in host else host
        info = dataclasses.replace(info, server=f"https://{bracketed}:{port or 443}")
    return ClusterConnection(info, _TOKEN_FILE)


def _allow_many_watches() -> None:
    """Allow as many connections as the kernel lets us: there is a watch per namespace with requests."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
