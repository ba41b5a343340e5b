"""The KMS endpoint in the pod: what it asks of a pod, and the variables that lead an AWS SDK to it; pure.

Zone: no secrets; the credentials written here are dummies that no service accepts. Source: AWS SDKs and Tools
Reference Guide, "Service-specific endpoints" and "Credential provider chain".
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from datakeys.contract.identity import ANNOTATION_AWS_ENDPOINT, ANNOTATION_AWS_ENDPOINT_PORT
from datakeys.webhook.patches.annotations import Pod, Receiver, iterate_containers
from datakeys.webhook.patches.refusal import RefusedError

LOOPBACK: Final = "127.0.0.1"
ENDPOINT_VARIABLE: Final = "AWS_ENDPOINT_URL_KMS"
#: An SDK won't send a request without any. The sidecar drops the signature made with them.
DUMMY_CREDENTIALS: Final = {"AWS_ACCESS_KEY_ID": "datakeys-endpoint", "AWS_SECRET_ACCESS_KEY": "unused"}
#: The SDK for Python reads only the second.
REGION_VARIABLES: Final = ("AWS_REGION", "AWS_DEFAULT_REGION")
#: Any of them leads an SDK to credentials of the app's own, which dummies would shadow.
_CREDENTIAL_VARIABLES: Final = frozenset(
    {
        *DUMMY_CREDENTIALS,
        "AWS_SESSION_TOKEN",
        "AWS_PROFILE",
        "AWS_DEFAULT_PROFILE",
        "AWS_CONFIG_FILE",
        "AWS_SHARED_CREDENTIALS_FILE",
        "AWS_ROLE_ARN",
        "AWS_WEB_IDENTITY_TOKEN_FILE",
        "AWS_CONTAINER_CREDENTIALS_FULL_URI",
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    }
)
_PROXY_VARIABLES: Final = ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy")
_NO_PROXY_VARIABLES: Final = ("NO_PROXY", "no_proxy")


def check_endpoint(pod: Pod, receivers: Sequence[Receiver], port: int) -> None:
    """Refuse pods in which the endpoint would be open to others, or wouldn't be found.

    Raises:
        RefusedError: The message names the field and what to do about it.
    """
    if pod["spec"].get("hostNetwork"):
        raise RefusedError(
            f"spec.hostNetwork: can't be combined with the annotation {ANNOTATION_AWS_ENDPOINT}, because "
            "every process of the node could use the pod's identity then"
        )
    for one in iterate_containers(pod):
        for index, declared in enumerate(one.container.get("ports") or []):
            if declared.get("containerPort") == port:
                raise RefusedError(
                    f"{one.field}.ports[{index}].containerPort: {port} is the KMS endpoint's port; choose "
                    f"another one with the annotation {ANNOTATION_AWS_ENDPOINT_PORT}"
                )
    for receiver in receivers:
        _check_variables(receiver)


def build_variables(container: Mapping[str, Any], port: int, region: str) -> list[dict[str, str]]:
    """Return the variables to add to a container.

    What the container sets is left as it is. What ``envFrom`` brings isn't known here, and ``env`` would win
    over it, so with ``envFrom`` neither Region nor credentials are added.
    """
    variables = {ENDPOINT_VARIABLE: f"http://{LOOPBACK}:{port}"}
    names = {variable["name"] for variable in container.get("env") or []}
    if not container.get("envFrom"):
        if not names.intersection(REGION_VARIABLES):
            variables |= dict.fromkeys(REGION_VARIABLES, region)
        if not names & _CREDENTIAL_VARIABLES:
            variables |= DUMMY_CREDENTIALS
    return [{"name": name, "value": value} for name, value in variables.items()]


def _check_variables(receiver: Receiver) -> None:
    variables = {
        variable["name"]: (index, str(variable.get("value", "")))
        for index, variable in enumerate(receiver.container.get("env") or [])
    }
    if ENDPOINT_VARIABLE in variables:
        raise RefusedError(
            f"{receiver.field}.env[{variables[ENDPOINT_VARIABLE][0]}].name: {ENDPOINT_VARIABLE} is set by "
            f"the annotation {ANNOTATION_AWS_ENDPOINT}; remove one of the two"
        )
    for name in _PROXY_VARIABLES:
        if name in variables and LOOPBACK not in _exceptions(variables):
            raise RefusedError(
                f"{receiver.field}.env[{variables[name][0]}].name: {name} would send what the app encrypts "
                f"to the proxy; add {LOOPBACK} to NO_PROXY"
            )


def _exceptions(variables: Mapping[str, tuple[int, str]]) -> Iterator[str]:
    for name in _NO_PROXY_VARIABLES:
        if name in variables:
            yield from (part.strip() for part in variables[name][1].split(","))
