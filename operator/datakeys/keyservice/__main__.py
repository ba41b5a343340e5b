"""``python -m datakeys.keyservice``."""

import os
import sys

from datakeys.keyservice.main import main

code = main()
sys.stdout.flush()
sys.stderr.flush()
# Threads that wait for the cluster must not delay the end.
os._exit(code)
