"""The key service for a developer's own tests: one process, no Kubernetes, spoken to by any AWS SDK.

Zone: key service. Nothing here, nor what it imports, may import the Kubernetes client: the start is fast.
"""
