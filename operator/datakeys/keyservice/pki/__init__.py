"""The service's own certificates. Zone: private keys of TLS, never backing keys."""
