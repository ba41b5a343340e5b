"""``kubectl kms who-can``: who may use a KMS key, and by which object. Zone: rights only, no key, no data."""
