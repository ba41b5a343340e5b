"""Start the process: harden it, read the settings, run the service.

Zone: no secrets of its own.
"""

import logging
import os
import sys
from typing import Final

import uvloop

from datakeys.keyservice.cluster_api import KubernetesApi
from datakeys.keyservice.process import allow_open_files, configure_logging, forbid_dumps, give_back_memory
from datakeys.keyservice.server.app import App
from datakeys.keyservice.settings import Settings
from datakeys.keyservice.store.root_key_provider import RootKeyError

_LOG: Final = logging.getLogger("datakeys.keyservice")


def main() -> int:
    """Run the service; return the exit code."""
    forbid_dumps()
    give_back_memory()
    allow_open_files()
    try:
        settings = Settings.from_environment(os.environ)
        configure_logging(settings.log_level)
    except ValueError as error:
        sys.stderr.write(f"bad settings: {error}\n")
        return 2
    try:
        return 0 if uvloop.run(_run(settings)) else 1
    except RootKeyError as error:
        _LOG.critical("refusing to start", extra={"cause": str(error)})
    except Exception:  # noqa: BLE001 - the process edge
        _LOG.critical("failed", exc_info=True)
    return 1


async def _run(settings: Settings) -> bool:
    return await App(settings, KubernetesApi()).run()
