"""The key service: AWS KMS semantics over HTTPS. Zone: the only room that holds key material."""
