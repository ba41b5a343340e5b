"""Pure cryptography. Zone: plaintext key material; may not see logs, HTTP, Kubernetes or the clock."""
