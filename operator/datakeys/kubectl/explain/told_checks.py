"""What the controller has told about an object, as Events. Zone: no I/O."""

from typing import Final

from datakeys.contract.identity import GROUP, MANAGED_BY
from datakeys.kubectl.answers import Items, Json, list_items
from datakeys.kubectl.explain.checks import Check, waits

_CONTROLLER: Final = f"{GROUP}/{MANAGED_BY}"


def check_told(warnings: Items) -> list[Check]:
    """Return the controller's latest word of each kind; an Event may be about something since put right."""
    latest: dict[str, Json] = {}
    for event in sorted(list_items(warnings), key=time_of):
        if event.get("reportingComponent") == _CONTROLLER:
            latest[str(event.get("reason"))] = event
    return [
        waits("controller", f"the controller told at {time_of(one)}: {one.get('message', '')}")
        for one in latest.values()
    ]


def time_of(event: Json) -> str:
    """Return when an Event was seen last, RFC 3339; empty if it doesn't say."""
    series: Json = event.get("series") or {}
    seen = series.get("lastObservedTime") or event.get("lastTimestamp") or event.get("eventTime")
    return str(seen or event["metadata"].get("creationTimestamp") or "")
