"""``python -m datakeys.keyservice``: the service of a cluster, or with arguments the local mode."""

import os
import sys

if len(sys.argv) > 1:
    # The local mode must start fast: it never imports the Kubernetes client.
    from datakeys.keyservice.local.app import main
else:
    from datakeys.keyservice.main import main

code = main()
sys.stdout.flush()
sys.stderr.flush()
# Threads that wait for the cluster must not delay the end.
os._exit(code)
