"""From a pod, or from a workload, to a JSON patch; pure.

Zone: no I/O, no clock, no secrets: names of Secrets only. What is looked up, the DataKeyRequests, is an
argument.
"""

from datakeys.webhook.patches.injection import Injection, build_injection, find_requests
from datakeys.webhook.patches.placement import SidecarKind
from datakeys.webhook.patches.refusal import Refusal
from datakeys.webhook.patches.request_facts import RequestFacts
from datakeys.webhook.patches.sidecar import SidecarSettings
from datakeys.webhook.patches.stamps import WORKLOAD_KINDS, build_stamps

__all__ = [
    "WORKLOAD_KINDS",
    "Injection",
    "Refusal",
    "RequestFacts",
    "SidecarKind",
    "SidecarSettings",
    "build_injection",
    "build_stamps",
    "find_requests",
]
