"""Building blocks of the CRD schemas.

Zone: no secrets, no I/O. Source: Kubernetes "Custom Resource Definitions", structural schemas and CEL
validation rules.
"""

from collections.abc import Sequence
from typing import Any, Final

from datakeys.contract.arn import ALIAS_NAME_PATTERN, KEY_ID_PATTERN, MAX_KEY_ID_LENGTH
from datakeys.contract.identity import CATEGORY, GROUP, VERSION

Schema = dict[str, Any]

#: DNS-1123 subdomain, the form of most object names.
NAME_PATTERN: Final = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"
MAX_NAME_LENGTH: Final = 253

_ARN_PREFIX = r"arn:[a-z0-9-]+:kms:[a-z0-9.-]+:[a-z0-9-]+:"
#: Any of the four forms of a KeyId.
ANY_KEY_ID_PATTERN: Final = (
    f"^({KEY_ID_PATTERN}|{ALIAS_NAME_PATTERN}|{_ARN_PREFIX}(key/{KEY_ID_PATTERN}|{ALIAS_NAME_PATTERN}))$"
)

#: The two forms that name a key itself.
KEY_OR_ARN_PATTERN: Final = f"^({_ARN_PREFIX}key/)?{KEY_ID_PATTERN}$"


def string(description: str, **constraints: Any) -> Schema:  # noqa: ANN401 - a schema holds any JSON
    """Return the schema of a string."""
    return {"type": "string", "description": _tell_default(description, constraints), **constraints}


def integer(description: str, minimum: int, maximum: int, **constraints: Any) -> Schema:  # noqa: ANN401
    """Return the schema of an integer within bounds."""
    return {
        "type": "integer",
        "format": "int32",
        "description": _tell_default(description, constraints),
        "minimum": minimum,
        "maximum": maximum,
        **constraints,
    }


def boolean(description: str, **constraints: Any) -> Schema:  # noqa: ANN401
    """Return the schema of a boolean."""
    return {"type": "boolean", "description": _tell_default(description, constraints), **constraints}


def obj(
    description: str,
    properties: dict[str, Schema],
    *,
    required: Sequence[str] = (),
    rules: Sequence[Schema] = (),
    **constraints: Any,  # noqa: ANN401
) -> Schema:
    """Return the schema of an object with known members."""
    schema: Schema = {"type": "object", "description": description, "properties": properties, **constraints}
    if required:
        schema["required"] = list(required)
    if rules:
        schema["x-kubernetes-validations"] = list(rules)
    return schema


def _tell_default(description: str, constraints: Schema) -> str:
    """Return the description with the default at its end: ``kubectl explain`` shows that nowhere else."""
    if "default" not in constraints:
        return description
    default = constraints["default"]
    return f"{description} Default: {str(default).lower() if isinstance(default, bool) else default}."


def rule(expression: str, message: str, field_path: str | None = None) -> Schema:
    """Return a CEL rule; ``field_path`` is the member that the API server names in its refusal."""
    built: Schema = {"rule": expression, "message": message}
    if field_path:
        built["fieldPath"] = field_path
        built["reason"] = "FieldValueInvalid"
    return built


def immutable(field: str) -> Schema:
    """Return the rule that an optional or defaulted member can't change after creation."""
    return rule(
        f"has(self.{field}) == has(oldSelf.{field}) && "
        f"(!has(self.{field}) || self.{field} == oldSelf.{field})",
        f"{field} can't be changed after creation",
        f".{field}",
    )


def object_name(description: str) -> Schema:
    """Return the schema of an object's name."""
    return string(description, minLength=1, maxLength=MAX_NAME_LENGTH, pattern=NAME_PATTERN)


def key_reference(description: str) -> Schema:
    """Return the schema of a reference to a KmsKey in the same namespace."""
    return obj(description, {"name": object_name("Name of a KmsKey in this namespace.")}, required=["name"])


def key_or_arn(description: str) -> Schema:
    """Return the schema of a KeyId of operations that take no alias: key id or key ARN."""
    return string(description, minLength=1, maxLength=MAX_KEY_ID_LENGTH, pattern=KEY_OR_ARN_PATTERN)


def any_key_id(description: str) -> Schema:
    """Return the schema of a KeyId in any of its four forms."""
    return string(description, minLength=1, maxLength=MAX_KEY_ID_LENGTH, pattern=ANY_KEY_ID_PATTERN)


def context_map(description: str, *, max_pairs: int, max_value: int) -> Schema:
    """Return the schema of encryption-context pairs."""
    return {
        "type": "object",
        "description": description,
        "maxProperties": max_pairs,
        "additionalProperties": {"type": "string", "maxLength": max_value},
    }


def conditions() -> Schema:
    """Return the schema of ``status.conditions``. Source: meta/v1 Condition."""
    item = obj(
        "One aspect of the object's current state.",
        {
            "type": string("Type of the condition.", maxLength=316),
            "status": string("True, False or Unknown.", enum=["True", "False", "Unknown"]),
            "observedGeneration": {
                "type": "integer",
                "format": "int64",
                "minimum": 0,
                "description": "The metadata.generation that the condition was set for.",
            },
            "lastTransitionTime": string("When the status last changed.", format="date-time"),
            "reason": string(
                "Why, as one CamelCase word; for a KMS error its name.",
                minLength=1,
                maxLength=1024,
                pattern=r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$",
            ),
            "message": string("Why, and what to do about it.", maxLength=32768),
        },
        required=["type", "status", "lastTransitionTime", "reason", "message"],
    )
    return {
        "type": "array",
        "description": "The latest observations of the object's state.",
        "items": item,
        "x-kubernetes-list-type": "map",
        "x-kubernetes-list-map-keys": ["type"],
    }


def observed_generation() -> Schema:
    """Return the schema of ``status.observedGeneration``."""
    return {
        "type": "integer",
        "format": "int64",
        "description": "The metadata.generation that the controller last acted on.",
    }


def column(name: str, path: str, description: str, type_: str = "string", priority: int = 0) -> Schema:
    """Return a printer column of ``kubectl get``; priority 1 shows only with ``-o wide``."""
    built: Schema = {"name": name, "type": type_, "jsonPath": path, "description": description}
    return {**built, "priority": priority} if priority else built


READY_COLUMN: Final = column("Ready", '.status.conditions[?(@.type=="Ready")].status', "Whether it is ready.")
REASON_COLUMN: Final = column("Reason", '.status.conditions[?(@.type=="Ready")].reason', "Why, or why not.")
AGE_COLUMN: Final = column("Age", ".metadata.creationTimestamp", "Time since creation.", "date")


def build_crd(
    *,
    kind: str,
    plural: str,
    short_names: Sequence[str],
    description: str,
    spec: Schema,
    status: Schema,
    columns: Sequence[Schema],
    root_rules: Sequence[Schema] = (),
) -> dict[str, Any]:
    """Return a namespaced CustomResourceDefinition with a status subresource."""
    root = obj(description, {"spec": spec, "status": status}, required=["spec"], rules=root_rules)
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": kind,
                "listKind": f"{kind}List",
                "plural": plural,
                "singular": kind.lower(),
                "shortNames": list(short_names),
                "categories": [CATEGORY],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": root},
                    "subresources": {"status": {}},
                    "additionalPrinterColumns": list(columns),
                }
            ],
        },
    }
