"""The health and metrics server, plain HTTP. Zone: counts and states only."""

import asyncio
from dataclasses import dataclass, field

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from datakeys.contract.environment import Address
from datakeys.controller import metrics


@dataclass
class Health:
    """How the process stands.

    Attributes:
        ready: The standby waits for the Lease, or the leader has seen all objects once.
    """

    ready: asyncio.Event = field(default_factory=asyncio.Event)


async def start_health_server(listen: Address, health: Health) -> web.AppRunner:
    """Serve /healthz, /readyz and /metrics; answering at all proves that the event loop turns."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        ready = health.ready.is_set()
        return web.Response(text="ok\n" if ready else "starting\n", status=200 if ready else 503)

    async def show_metrics(_: web.Request) -> web.Response:
        body = generate_latest(metrics.REGISTRY)
        return web.Response(body=body, headers={"Content-Type": CONTENT_TYPE_LATEST})

    app = web.Application()
    app.router.add_get("/healthz", healthz)
    app.router.add_get("/readyz", readyz)
    app.router.add_get("/metrics", show_metrics)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, listen.host, listen.port).start()
    return runner
