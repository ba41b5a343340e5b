"""``python -m datakeys.webhook``. Zone: no secrets."""

import sys

from datakeys.webhook.main import main

sys.exit(main())
