"""The controller: turns custom resources into calls of the key service and into Secrets.

Zone: ciphertext only.
"""
