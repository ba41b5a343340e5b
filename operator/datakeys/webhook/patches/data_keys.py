"""Which Secrets are mounted, and under which names their keys are delivered. Zone: names only, no I/O."""

from collections.abc import Iterator, Mapping
from typing import Final

from datakeys.contract.data_key_versions import build_version_secret_name
from datakeys.contract.identity import ANNOTATION_REQUESTS, DEFAULT_SERVICE_ACCOUNT
from datakeys.webhook.patches.annotations import Pod, Wishes
from datakeys.webhook.patches.refusal import RefusedError
from datakeys.webhook.patches.request_facts import RequestFacts

#: Each takes a page of 4 KiB of the keys' volume, and two while it is replaced.
MAX_DATA_KEYS: Final = 100

Facts = Mapping[str, RequestFacts | None]


def build_secret_names(wishes: Wishes, facts: Facts) -> dict[str, str]:
    """Return the Secret of each delivered name: ``orders``, with several versions also ``orders@1`` ….

    A request that doesn't exist (yet) is taken to keep its data key in a Secret of its own name.

    Raises:
        RefusedError: There are more data keys than a pod can get.
    """
    names = {
        delivered: secret
        for name, request in wishes.keys.items()
        for delivered, secret in _iterate_versions(name, request, facts.get(request))
    }
    if len(names) > MAX_DATA_KEYS:
        raise RefusedError(
            f"annotation {ANNOTATION_REQUESTS}: the requests have {len(names)} data keys, old versions "
            f"included, and a pod gets {MAX_DATA_KEYS} at most; name fewer, or raise their spec.oldestVersion"
        )
    return names


def build_request_warnings(pod: Pod, wishes: Wishes, facts: Facts) -> list[str]:
    """Return what will keep the pod from starting, for the user: short, since the API server cuts them."""
    account = pod["spec"].get("serviceAccountName") or DEFAULT_SERVICE_ACCOUNT
    made = wishes.workload_key.request if wishes.workload_key else None
    warnings = []
    for name in wishes.keys.values():
        found = facts.get(name)
        if found is None:
            # The operator is about to make the workload's own.
            if name != made:
                warnings.append(f"DataKeyRequest {name} not found: the pod waits for Secret {name}")
        elif found.dry_run:
            warnings.append(f"DataKeyRequest {name} is a dry run, it gets no Secret: the pod waits")
        elif found.service_account_name != account:
            warnings.append(
                f"DataKeyRequest {name} is for ServiceAccount {found.service_account_name}: "
                f"{account} will be refused"
            )
    return warnings


def _iterate_versions(name: str, request: str, found: RequestFacts | None) -> Iterator[tuple[str, str]]:
    if found is None:
        yield name, request
        return
    yield name, build_version_secret_name(found.secret_name, found.version)
    if found.version > 1:
        for version in range(found.oldest_version, found.version + 1):
            yield f"{name}@{version}", build_version_secret_name(found.secret_name, version)
