"""Looks DataKeyRequests up in the API server, with a short memory. Zone: no secrets."""

import asyncio
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from typing import Any, Final

from urllib3.exceptions import HTTPError

from datakeys.webhook.admission import LookupUnavailableError
from datakeys.webhook.kubernetes_api import ApiError
from datakeys.webhook.patches import RequestFacts

#: A Deployment's pods come in bursts. So long a new version of a data key, or another request of the same
#: name, may go unseen: both take the controller longer.
REMEMBER_SECONDS: Final = 1.0
_MAX_REMEMBERED: Final = 4096

GetRequest = Callable[[str, str], dict[str, Any]]


class KubernetesRequestLookup:
    """Looks requests up with parallel GETs; remembers those that exist, never that one doesn't."""

    def __init__(self, get_request: GetRequest, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._get_request = get_request
        self._clock = clock
        self._remembered: dict[tuple[str, str], tuple[float, RequestFacts]] = {}

    async def fetch(self, namespace: str, names: tuple[str, ...]) -> Mapping[str, RequestFacts | None]:
        """Return the facts of each request; None for one that doesn't exist.

        Raises:
            LookupUnavailableError: The API server gives no answer, or refuses this webhook.
        """
        found = await asyncio.gather(*(self._fetch_one(namespace, name) for name in names))
        return dict(zip(names, found, strict=True))

    async def _fetch_one(self, namespace: str, name: str) -> RequestFacts | None:
        key = (namespace, name)
        until, facts = self._remembered.get(key, (0.0, None))
        if facts and self._clock() < until:
            return facts
        try:
            found = await asyncio.to_thread(self._get_request, namespace, name)
        except ApiError as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise LookupUnavailableError(f"the API server answers {error.status}") from None
        except (HTTPError, OSError):
            raise LookupUnavailableError("the API server can't be reached") from None
        return self._remember(key, RequestFacts.from_object(found))

    def _remember(self, key: tuple[str, str], facts: RequestFacts) -> RequestFacts:
        if len(self._remembered) >= _MAX_REMEMBERED:
            self._remembered.clear()
        self._remembered[key] = (self._clock() + REMEMBER_SECONDS, facts)
        return facts
