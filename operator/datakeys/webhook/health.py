"""``/healthz``, ``/readyz`` and ``/metrics``, plain HTTP. Zone: no secrets."""

from collections.abc import Callable
from http import HTTPStatus

from aiohttp import web
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from datakeys.webhook.metrics import Metrics


def build_health_application(metrics: Metrics, find_obstacle: Callable[[], str]) -> web.Application:
    """Return the application; ``find_obstacle`` says why the webhook isn't ready, or ""."""

    async def healthz(_: web.Request) -> web.Response:
        return web.Response(text="ok\n")

    async def readyz(_: web.Request) -> web.Response:
        obstacle = find_obstacle()
        status = HTTPStatus.SERVICE_UNAVAILABLE if obstacle else HTTPStatus.OK
        return web.Response(text=f"{obstacle or 'ok'}\n", status=int(status))

    async def show_metrics(_: web.Request) -> web.Response:
        return web.Response(
            body=generate_latest(metrics.registry), headers={"Content-Type": CONTENT_TYPE_LATEST}
        )

    application = web.Application()
    application.router.add_get("/healthz", healthz)
    application.router.add_get("/readyz", readyz)
    application.router.add_get("/metrics", show_metrics)
    return application
