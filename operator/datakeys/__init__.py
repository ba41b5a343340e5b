"""Data keys for Kubernetes workloads. One sub-package per trust boundary; see operator/README.md."""
