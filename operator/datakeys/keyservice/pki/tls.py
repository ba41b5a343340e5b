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
from datakeys.keyservice.pki.authority import Leaf, Lifetimes
from datakeys.keyservice.pki.certificates import Certificates, Served

_LOG: Final = logging.getLogger("datakeys.keyservice.pki")
_MOST_SECONDS: Final = 600.0
_LEAST_SECONDS: Final = 0.5
RETRY_SECONDS: Final = 30.0


def find_pause(lifetimes: Lifetimes) -> float:
    """Return the pause between two looks, in seconds: ten minutes, less if certificates don't live long."""
    return min(_MOST_SECONDS, max(_LEAST_SECONDS, min(lifetimes.leaf, lifetimes.overlap) / 20))


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
    """Looks again and again; whoever comes first renews, the others load what they find."""

    def __init__(
        self,
        certificates: Certificates,
        context: ssl.SSLContext,
        served: Served,
        executor: Executor,
        pause_seconds: float,
    ) -> None:
        self._certificates = certificates
        self._context = context
        self._served = served
        self._executor = executor
        self._pause_seconds = pause_seconds

    @property
    def expires_at(self) -> float:
        """Return the end of the served certificate's validity in seconds since the epoch."""
        return self._served.leaf.expires_at

    @property
    def ca_expires_at(self) -> float:
        """Return the end of the validity of the CA that has signed it, in seconds since the epoch."""
        return self._served.ca_expires_at

    async def run(self) -> None:
        """Run until cancelled."""
        delay = self._pause_seconds
        while True:
            await asyncio.sleep(delay)
            delay = self._pause_seconds if await self.renew() else min(RETRY_SECONDS, self._pause_seconds)

    async def renew(self) -> bool:
        """Renew what is due and load a changed leaf; False if the cluster can't be reached."""
        loop = asyncio.get_running_loop()
        try:
            served = await loop.run_in_executor(self._executor, self._certificates.ensure)
        except KmsError as error:
            _LOG.warning("certificates can't be checked", extra={"cause": error.message})
            return False
        if served.leaf != self._served.leaf:
            load_leaf(self._context, served.leaf)
            _LOG.info("serving certificate loaded", extra={"expires_at": served.leaf.expires_at})
        self._served = served
        return True
