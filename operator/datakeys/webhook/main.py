"""The process edge of ``python -m datakeys.webhook``. Zone: no secrets."""

import asyncio
import logging
import os

from datakeys.webhook.kubernetes_api import connect
from datakeys.webhook.logs import log_event, set_up_logging
from datakeys.webhook.process import allow_open_files, give_back_memory
from datakeys.webhook.request_lookup import KubernetesRequestLookup
from datakeys.webhook.server import Webhook
from datakeys.webhook.settings import Settings, read_settings


async def run(settings: Settings) -> None:
    """Connect and serve until SIGTERM."""
    api = connect()
    await Webhook(settings, KubernetesRequestLookup(api.get_data_key_request), api).run()


def main() -> int:
    """Return the exit status: 0 after SIGTERM, 1 if the settings aren't fit."""
    set_up_logging("INFO")
    try:
        settings = read_settings(os.environ)
    except ValueError as error:
        log_event("refused", level=logging.ERROR, reason=str(error))
        return 1
    set_up_logging(settings.log_level)
    allow_open_files()
    give_back_memory()
    asyncio.run(run(settings))
    log_event("stopped")
    return 0
