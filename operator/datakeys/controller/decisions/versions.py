"""Which of two states of an object is the newer one. Zone: no secrets, no I/O.

Source: Kubernetes API concepts, "Resource versions": decimal versions of one resource type can be compared.
"""


def is_newer(version: str, than: str) -> bool:
    """Return whether a resourceVersion is newer; what isn't decimal counts as newer if it differs."""
    if version.isdecimal() and than.isdecimal():
        return int(version) > int(than)
    return version != than
