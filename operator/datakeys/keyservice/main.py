"""Start the process: harden it, read the settings, run the service.

Zone: no secrets of its own.
"""

import logging
import os
import sys
from typing import Final

import uvloop

from datakeys.keyservice.cluster_api import KubernetesApi
from datakeys.keyservice.process import configure_logging, forbid_dumps
from datakeys.keyservice.server.app import App
from datakeys.keyservice.settings import Settings
from datakeys.keyservice.store.root_key_provider import RootKeyError

_LOG: Final = logging.getLogger("datakeys.keyservice")


def main() -> int:
    """Run the service; return the exit code."""
    forbid_dumps()
    try:
        settings = Settings.from_environment(os.environ)
        configure_logging(settings.log_level)
    except ValueError as error:
        sys.stderr.write(f"bad settings: {error}\n")
        return 2
    try:
        uvloop.run(App(settings, KubernetesApi()).run())
    except RootKeyError as error:
        _LOG.critical("refusing to start", extra={"cause": str(error)})
        return 1
    return 0
