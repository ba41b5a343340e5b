"""Names that every process must spell alike: API group, labels, annotations, audience, header names.

Zone: no secrets, no I/O.
"""

from typing import Final

GROUP: Final = "datakeys.dev"
VERSION: Final = "v1alpha1"
API_VERSION: Final = f"{GROUP}/{VERSION}"
CATEGORY: Final = "datakeys"

#: Audience of every ServiceAccount token that is presented to the key service. A token for the
#: API server is refused there, and a token stolen from there is of no use against the API server.
AUDIENCE: Final = "keyservice.datakeys.dev"

#: Pods with this label are sent to the webhook (its object selector).
LABEL_INJECT: Final = "datakeys.dev/inject"
#: Comma-separated names of DataKeyRequests in the pod's namespace.
ANNOTATION_REQUESTS: Final = "datakeys.dev/requests"
#: "file" (default), "socket" or "init".
ANNOTATION_DELIVERY: Final = "datakeys.dev/delivery"
#: Comma-separated names of the containers that get the keys; default: all.
ANNOTATION_CONTAINERS: Final = "datakeys.dev/containers"
#: "true": the sidecar serves the KMS protocol on the pod's loopback, under the pod's identity.
ANNOTATION_AWS_ENDPOINT: Final = "datakeys.dev/aws-endpoint"
#: The endpoint's port, 1024..65535; default 4599.
ANNOTATION_AWS_ENDPOINT_PORT: Final = "datakeys.dev/aws-endpoint-port"
#: On a workload or a bare pod: the KMS key of the data key that is made for it: key id, ARN or alias.
ANNOTATION_KEY: Final = "datakeys.dev/key"
#: "AES_256" (default) or "AES_128"; not together with the number of bytes.
ANNOTATION_KEY_SPEC: Final = "datakeys.dev/key-spec"
ANNOTATION_NUMBER_OF_BYTES: Final = "datakeys.dev/number-of-bytes"
#: Pairs of the encryption context: "purpose=orders,tenant=a".
ANNOTATION_ENCRYPTION_CONTEXT: Final = "datakeys.dev/encryption-context"
#: Under which name that data key is delivered; default: "data-key".
ANNOTATION_KEY_NAME: Final = "datakeys.dev/key-name"
#: "workload" (default): one data key for all pods; "pod": one for each ordinal of a StatefulSet.
ANNOTATION_SCOPE: Final = "datakeys.dev/scope"
#: "Retain" (default) or "Delete": what becomes of the DataKeyRequest when its workload is deleted.
ANNOTATION_DELETION_POLICY: Final = "datakeys.dev/deletion-policy"
#: Set by the webhook on a workload's pod template: "Deployment/orders", the workload the pods belong to.
ANNOTATION_WORKLOAD: Final = "datakeys.dev/workload"
#: How long the plaintext stays after its delivery, "90s", "15m", "8h"; default: as long as the pod.
ANNOTATION_TTL: Final = "datakeys.dev/ttl"
#: "once": the plaintext is destroyed after it was read for the first time.
ANNOTATION_READS: Final = "datakeys.dev/reads"
#: Mode of the delivered files, "0400" (default), "0440" or "0444".
ANNOTATION_FILE_MODE: Final = "datakeys.dev/file-mode"
#: UID that owns the delivered files, where the pod's spec doesn't say as whom the app runs.
ANNOTATION_FILE_OWNER: Final = "datakeys.dev/file-owner"
#: Set by the webhook on a pod it has injected; the value is the sidecar's image.
ANNOTATION_INJECTED: Final = "datakeys.dev/injected"
#: What a user can write on a workload, its pod template or a pod; the rest of the prefix has no effect.
USER_ANNOTATIONS: Final = (
    ANNOTATION_KEY,
    ANNOTATION_KEY_SPEC,
    ANNOTATION_NUMBER_OF_BYTES,
    ANNOTATION_ENCRYPTION_CONTEXT,
    ANNOTATION_KEY_NAME,
    ANNOTATION_SCOPE,
    ANNOTATION_DELETION_POLICY,
    ANNOTATION_REQUESTS,
    ANNOTATION_DELIVERY,
    ANNOTATION_CONTAINERS,
    ANNOTATION_TTL,
    ANNOTATION_READS,
    ANNOTATION_FILE_MODE,
    ANNOTATION_FILE_OWNER,
    ANNOTATION_AWS_ENDPOINT,
    ANNOTATION_AWS_ENDPOINT_PORT,
)
#: The container that the webhook injects.
SIDECAR_NAME: Final = "datakeys-sidecar"
#: Whom a pod runs as that names no ServiceAccount. Source: Kubernetes "Service Accounts".
DEFAULT_SERVICE_ACCOUNT: Final = "default"
#: On Secrets that hold an encrypted data key: the request's name.
LABEL_REQUEST: Final = "datakeys.dev/request"
#: On DataKeyRequests that are made for a workload: "orders.deployment", also on those of single ordinals.
LABEL_WORKLOAD: Final = "datakeys.dev/workload"
LABEL_MANAGED_BY: Final = "app.kubernetes.io/managed-by"
MANAGED_BY: Final = "datakeys-controller"

#: Type of the Secrets that hold one encrypted data key.
SECRET_TYPE: Final = "datakeys.dev/encrypted-data-key"  # noqa: S105 - a type name, not a secret
#: ConfigMap the controller keeps in every namespace with requests: the key service's CA bundle.
TRUST_BUNDLE_CONFIG_MAP: Final = "datakeys-trust-bundle"
TRUST_BUNDLE_KEY: Final = "ca.crt"

FINALIZER: Final = "datakeys.dev/schedule-key-deletion"

#: The controller acts for the account (namespace) named here; refused from anybody else.
HEADER_ACCOUNT: Final = "x-datakeys-account"
#: Name of the object a CreateKey or CreateGrant call is made for: makes the call idempotent.
HEADER_OBJECT_NAME: Final = "x-datakeys-object-name"


def service_account_principal(namespace: str, name: str) -> str:
    """Return the Kubernetes user name of a ServiceAccount.

    Source: Kubernetes "Authenticating", section "Service account tokens".
    """
    return f"system:serviceaccount:{namespace}:{name}"
