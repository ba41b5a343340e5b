"""The admission webhook: adds the sidecar to pods that ask for data keys, and stamps their workloads.

Zone: ciphertext only, and even that by name: it mounts Secrets and never reads one.
"""
