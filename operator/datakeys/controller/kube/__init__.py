"""The edge to the Kubernetes API. Zone: ciphertext only; nothing here decides what should be."""
