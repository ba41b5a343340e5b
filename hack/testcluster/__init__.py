"""A real Kubernetes cluster for the tests, made from Go modules and Debian packages.

Neither an image registry nor a container engine is needed: the whole cluster runs in one network
namespace of this machine. Where a Docker engine answers, kind takes its place behind the same verbs.
Duty of this package: to make, break and remove clusters. It knows nothing of data keys.
"""
