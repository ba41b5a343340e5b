"""``python -m datakeys.kubectl``, and the entry of the single-file plugin."""

import sys

from datakeys.kubectl.main import main

if __name__ == "__main__":
    sys.exit(main())
