"""Destroy keys whose waiting period is over.

Zone: sealed material only. The delete has preconditions, and a second one finds nothing. Source:
kms-semantics section 2.2.
"""

from collections.abc import Callable

from datakeys.keyservice.store.interface import KeyStore
from datakeys.keyservice.store.records import KeyRecord
from datakeys.keyservice.store.schedule import Chore


def build_destruction(store: KeyStore, clock: Callable[[], float]) -> Chore:
    """Return the chore that destroys keys at their deletion date."""

    def destroy(record: KeyRecord) -> bool:
        now = clock()
        return store.destroy_key(record.key_id, lambda current: current.is_due(now))

    return Chore("destruction", "key destroyed", lambda record: record.deletion_at, destroy)
