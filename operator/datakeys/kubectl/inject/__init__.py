"""``kubectl kms inject``: what the webhook would make of a manifest. Zone: manifests and names of Secrets."""
