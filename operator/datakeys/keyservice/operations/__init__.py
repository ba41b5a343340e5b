"""One file per API verb. Zone: uses key material through `material`; sees no HTTP and no Kubernetes."""
