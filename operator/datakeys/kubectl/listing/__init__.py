"""``kubectl kms keys`` and ``kubectl kms requests``. Zone: names and states only."""
