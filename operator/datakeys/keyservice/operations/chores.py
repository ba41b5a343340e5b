"""Everything that happens to keys by itself.

Zone: no secrets; says which chores there are.
"""

from datakeys.keyservice.operations.call import Service
from datakeys.keyservice.operations.rotation import build_automatic_rotation
from datakeys.keyservice.store.deletion import build_destruction
from datakeys.keyservice.store.expiry import build_expiry
from datakeys.keyservice.store.schedule import Chore


def build_chores(service: Service) -> tuple[Chore, ...]:
    """Return the chores of a service, destruction first: what must go isn't changed before."""
    return (
        build_destruction(service.store, service.clock),
        build_expiry(service.store, service.clock),
        build_automatic_rotation(service),
    )
