"""Health, readiness and metrics on plain HTTP.

Zone: no secrets. Ready only after the records are loaded, the root key opens them and a certificate is
served; not ready any more from SIGTERM on.
"""

from typing import Final

from datakeys.keyservice.server.http import HttpRequest, HttpResponse
from datakeys.keyservice.server.metrics import RequestMetrics, render

_TEXT: Final = b"text/plain; charset=utf-8"
_METRICS: Final = b"text/plain; version=0.0.4; charset=utf-8"


class Health:
    """The handler of the health port."""

    def __init__(self, metrics: RequestMetrics) -> None:
        self.ready = False
        self._metrics = metrics

    def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer /healthz, /readyz and /metrics."""
        path = request.target.partition(b"?")[0]
        if request.method not in ("GET", "HEAD"):
            return HttpResponse(405, b"method not allowed\n", _TEXT)
        if path == b"/healthz":
            return HttpResponse(200, b"ok\n", _TEXT)
        if path == b"/readyz":
            return (
                HttpResponse(200, b"ok\n", _TEXT) if self.ready else HttpResponse(503, b"not ready\n", _TEXT)
            )
        if path == b"/metrics":
            return HttpResponse(200, render(self._metrics), _METRICS)
        return HttpResponse(404, b"not found\n", _TEXT)
