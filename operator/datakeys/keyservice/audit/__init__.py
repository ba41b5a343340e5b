"""The audit stream ``kms.audit``. Zone: no key material, no plaintext; encryption contexts aren't secret."""
