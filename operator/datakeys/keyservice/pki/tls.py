"""The server's TLS context, and the task that renews its certificate.

Zone: the service's TLS key, which goes through an anonymous memory file, never to a disk.
Source: RFC 8446; Mozilla "Server Side TLS", intermediate.
"""

import asyncio
import logging
import os
import ssl
from concurrent.futures import Executor
from typing import Final

from datakeys.contract.errors import KmsError
from datakeys.keyservice.pki.authority import Leaf
from datakeys.keyservice.pki.certificates import Certificates

_LOG: Final = logging.getLogger("datakeys.keyservice.pki")
CHECK_SECONDS: Final = 600.0
RETRY_SECONDS: Final = 30.0


def build_server_context(leaf: Leaf) -> ssl.SSLContext:
    """Return a TLS 1.2+ server context that serves a leaf."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    load_leaf(context, leaf)
    return context


def load_leaf(context: ssl.SSLContext, leaf: Leaf) -> None:
    """Serve another leaf on new connections."""
    fd = os.memfd_create("tls", os.MFD_CLOEXEC)
    try:
        os.write(fd, (leaf.certificate_pem + leaf.key_pem).encode())
        context.load_cert_chain(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


class RenewalTask:
    """Looks every ten minutes; whoever comes first renews, the others load what they find."""

    def __init__(
        self, certificates: Certificates, context: ssl.SSLContext, leaf: Leaf, executor: Executor
    ) -> None:
        self._certificates = certificates
        self._context = context
        self._leaf = leaf
        self._executor = executor

    @property
    def expires_at(self) -> float:
        """Return the end of the served certificate's validity in seconds since the epoch."""
        return self._leaf.expires_at

    async def run(self) -> None:
        """Run until cancelled."""
        delay = CHECK_SECONDS
        while True:
            await asyncio.sleep(delay)
            delay = CHECK_SECONDS if await self.renew() else RETRY_SECONDS

    async def renew(self) -> bool:
        """Renew what is due and load a changed leaf; False if the cluster can't be reached."""
        loop = asyncio.get_running_loop()
        try:
            served = await loop.run_in_executor(self._executor, self._certificates.ensure)
        except KmsError as error:
            _LOG.warning("certificates can't be checked", extra={"cause": error.message})
            return False
        if served.leaf != self._leaf:
            load_leaf(self._context, served.leaf)
            self._leaf = served.leaf
            _LOG.info("serving certificate loaded", extra={"expires_at": served.leaf.expires_at})
        return True
