"""Entry point: ``python -m datakeys.controller``."""

from datakeys.controller.main import main

if __name__ == "__main__":
    main()
