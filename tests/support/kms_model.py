"""The AWS service model of KMS as a judge: what a request may hold, what an answer must look like.

Zone: tests. The model is the one inside botocore (kms 2014-11-01).
"""

import base64
import binascii
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import botocore.session
from botocore.serialize import create_serializer

#: Errors that every operation may answer. Source: AWS KMS API, "Common Error Types"; kms-semantics 1.5.
COMMON_ERRORS: Final = frozenset(
    {
        "AccessDeniedException",
        "ExpiredTokenException",
        "IncompleteSignatureException",
        "InvalidSignatureException",
        "MissingAuthenticationTokenException",
        "SerializationException",
        "ThrottlingException",
        "UnknownOperationException",
        "UnrecognizedClientException",
        "ValidationException",
    }
)
#: The model has a member, but not its error.
_FORGOTTEN_ERRORS: Final[Mapping[str, set[str]]] = {
    "DescribeKey": {"InvalidGrantTokenException"},
    "ListKeyPolicies": {"InvalidMarkerException"},
}
#: What issue "All of the KMS semantics" asks for.
REQUIRED_OPERATIONS: Final = frozenset(
    """
    CreateKey DescribeKey ListKeys EnableKey DisableKey ScheduleKeyDeletion CancelKeyDeletion
    UpdateKeyDescription TagResource UntagResource ListResourceTags CreateAlias UpdateAlias DeleteAlias
    ListAliases CreateGrant ListGrants ListRetirableGrants RetireGrant RevokeGrant GetKeyPolicy PutKeyPolicy
    ListKeyPolicies EnableKeyRotation DisableKeyRotation GetKeyRotationStatus RotateKeyOnDemand
    ListKeyRotations GetParametersForImport ImportKeyMaterial DeleteImportedKeyMaterial
    GenerateDataKeyWithoutPlaintext GenerateDataKey GenerateDataKeyPair GenerateDataKeyPairWithoutPlaintext
    GenerateRandom Encrypt Decrypt ReEncrypt Sign Verify GetPublicKey GenerateMac VerifyMac
    """.split()  # noqa: SIM905 - reads as the issue does
)


@cache
def service_model() -> Any:
    """Return botocore's model of the service."""
    return botocore.session.get_session().get_service_model("kms")


@cache
def operation_model(operation: str) -> Any:
    """Return the model of one operation."""
    return service_model().operation_model(operation)


def operation_names() -> list[str]:
    """Return all operations of the model, sorted."""
    return sorted(service_model().operation_names)


def allowed_errors(operation: str) -> frozenset[str]:
    """Return the error codes that an operation may answer.

    Those are the model's, the common ones, and those of members whose error the model leaves out.
    """
    return (
        COMMON_ERRORS
        | _FORGOTTEN_ERRORS.get(operation, set())
        | {shape.name for shape in operation_model(operation).error_shapes}
    )


def input_members(operation: str) -> Mapping[str, Any]:
    """Return the members of an operation's input with their shapes."""
    shape = operation_model(operation).input_shape
    return {} if shape is None else dict(shape.members)


def output_members(operation: str) -> Mapping[str, Any]:
    """Return the members of an operation's output with their shapes."""
    shape = operation_model(operation).output_shape
    return {} if shape is None else dict(shape.members)


def to_wire(operation: str, members: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON object that an AWS client sends for members as Python spells them."""
    serializer = create_serializer("json", include_validation=False)
    body = serializer.serialize_to_request(dict(members), operation_model(operation))["body"]
    wire: dict[str, Any] = json.loads(body)
    return wire


def check_output(operation: str, answer: Mapping[str, Any]) -> list[str]:
    """Return what is wrong with the JSON of a successful answer; empty if it fits the model."""
    shape = operation_model(operation).output_shape
    if shape is None:
        return [f"{operation} has no output, but got {sorted(answer)}"] if answer else []
    return list(_walk(shape, answer, operation))


def _walk(shape: Any, value: Any, path: str) -> Iterator[str]:  # noqa: C901, PLR0912 - one branch per type
    match shape.type_name:
        case "structure":
            if not isinstance(value, dict):
                yield f"{path}: not an object"
                return
            for name in shape.required_members:
                if value.get(name) is None:
                    yield f"{path}.{name}: missing"
            for name, inner in value.items():
                if name not in shape.members:
                    yield f"{path}.{name}: not in the model"
                elif inner is None:
                    yield f"{path}.{name}: null"
                else:
                    yield from _walk(shape.members[name], inner, f"{path}.{name}")
        case "list":
            if not isinstance(value, list):
                yield f"{path}: not a list"
                return
            yield from _length(shape, len(value), path)
            for index, inner in enumerate(value):
                yield from _walk(shape.member, inner, f"{path}[{index}]")
        case "map":
            if not isinstance(value, dict):
                yield f"{path}: not a map"
                return
            for name, inner in value.items():
                yield from _walk(shape.key, name, f"{path} key")
                yield from _walk(shape.value, inner, f"{path}[{name}]")
        case _:
            yield from _walk_scalar(shape, value, path)


def _walk_scalar(shape: Any, value: Any, path: str) -> Iterator[str]:  # noqa: C901, PLR0912 - likewise
    match shape.type_name:
        case "string":
            if not isinstance(value, str):
                yield f"{path}: not a string"
                return
            yield from _length(shape, len(value), path)
            # The model's enumeration stops at older specs, its text says: the same value as KeySpec.
            old_name = path.endswith(".CustomerMasterKeySpec")
            enum = service_model().shape_for("KeySpec").enum if old_name else shape.enum
            if enum and value not in enum:
                yield f"{path}: {value} isn't in the enumeration"
            pattern = shape.metadata.get("pattern")
            if pattern and not re.fullmatch(pattern, value):
                yield f"{path}: {value} doesn't match {pattern}"
        case "blob":
            try:
                raw = base64.b64decode(value, validate=True)
            except (binascii.Error, TypeError, ValueError):
                yield f"{path}: not base64"
                return
            yield from _length(shape, len(raw), path)
        case "boolean":
            if type(value) is not bool:
                yield f"{path}: not a boolean"
        case "integer" | "long":
            if type(value) is not int:
                yield f"{path}: not an integer"
            else:
                yield from _length(shape, value, path)
        case "timestamp":
            if type(value) not in (int, float):
                yield f"{path}: not a number of seconds"
        case other:
            yield f"{path}: a {other} was not expected"


def _length(shape: Any, length: int, path: str) -> Iterator[str]:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    if (low is not None and length < low) or (high is not None and length > high):
        yield f"{path}: {length} is not in {low}..{high}"


@dataclass(frozen=True)
class Cell:
    """One broken constraint of one member.

    Attributes:
        operation: The operation.
        path: The member and, below it, list items, map values and members: ``("Tags", 0, "TagKey")``.
        rule: What is broken, in a word.
        value: What is sent there; None removes the member.
        code: The error that must come.
    """

    operation: str
    path: tuple[str | int, ...]
    rule: str
    value: Any
    code: str = "ValidationException"

    @property
    def id(self) -> str:
        """Return a readable name of the cell."""
        return f"{self.operation}-{'.'.join(map(str, self.path))}-{self.rule}"


_WRONG_TYPES: Final[Mapping[str, tuple[Any, ...]]] = {
    "string": (7, True, ["x"], {"x": "y"}),
    "integer": ("7", 7.5, True, [7]),
    "boolean": ("true", 1, []),
    "blob": (7, True, ["eA=="], "no base64!"),
    "timestamp": ("soon", True, [1]),
    "list": ("x", 7, {"x": "y"}),
    "map": ("x", 7, ["x"]),
    "structure": ("x", 7, ["x"]),
}
#: At least one of these breaks each pattern of the model.
_MISFITS: Final = ("\u2603", "!", " ")
SERIALIZATION: Final = "SerializationException"


@cache
def constraint_cells(operation: str) -> tuple[Cell, ...]:
    """Return every way to break exactly one constraint of an operation's input."""
    shape = operation_model(operation).input_shape
    return () if shape is None else tuple(_structure_cells(operation, shape, ()))


def _structure_cells(operation: str, shape: Any, path: tuple[str | int, ...]) -> Iterator[Cell]:
    for name in shape.required_members:
        yield Cell(operation, (*path, name), "missing", None)
    for name, member in shape.members.items():
        yield from _member_cells(operation, member, (*path, name))


def _member_cells(operation: str, shape: Any, path: tuple[str | int, ...]) -> Iterator[Cell]:
    kind = shape.type_name
    for value in _WRONG_TYPES[kind]:
        yield Cell(operation, path, f"type {json.dumps(value)}", value, SERIALIZATION)
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    match kind:
        case "string":
            yield from _string_cells(operation, shape, path, low, high)
        case "integer":
            if low is not None:
                yield Cell(operation, path, "too small", low - 1)
                yield Cell(operation, path, "too big", high + 1)
        case "blob":
            yield Cell(operation, path, "too short", "")
            yield Cell(operation, path, "too long", base64.b64encode(bytes(high + 1)).decode())
        case "list":
            yield from _list_cells(operation, shape, path, low, high)
        case "map":
            yield Cell(operation, (*path, "name"), "type 7", 7, SERIALIZATION)
        case "structure":
            yield from _structure_cells(operation, shape, path)


def _string_cells(
    operation: str, shape: Any, path: tuple[str | int, ...], low: int | None, high: int | None
) -> Iterator[Cell]:
    if shape.enum:
        yield Cell(operation, path, "enum", "NOT_IN_THE_ENUM")
        yield Cell(operation, path, "enum case", shape.enum[0].swapcase())
    if low:
        yield Cell(operation, path, "too short", "a" * (low - 1))
    if high is not None:
        yield Cell(operation, path, "too long", "a" * (high + 1))
    pattern = shape.metadata.get("pattern")
    if pattern:
        misfit = next(text for text in _MISFITS if not re.fullmatch(pattern, text * (low or 1)))
        yield Cell(operation, path, "pattern", misfit * (low or 1))


def _list_cells(
    operation: str, shape: Any, path: tuple[str | int, ...], low: int | None, high: int | None
) -> Iterator[Cell]:
    if low:
        yield Cell(operation, path, "too short", [])
    if high is not None:
        yield Cell(operation, path, "too long", [_filler(shape.member)] * (high + 1))
    yield from _member_cells(operation, shape.member, (*path, 0))


def _filler(shape: Any) -> Any:
    return shape.enum[0] if shape.enum else "a" * (shape.metadata.get("min") or 1)


def break_request(body: dict[str, Any], cell: Cell) -> dict[str, Any]:
    """Return a copy of a valid request with one constraint broken."""
    broken: dict[str, Any] = json.loads(json.dumps(body))
    holder: Any = broken
    shape = operation_model(cell.operation).input_shape
    for step, following in zip(cell.path, cell.path[1:], strict=False):
        inner = holder.get(step) if isinstance(holder, dict) else None
        if isinstance(step, int):
            inner = holder[step] if step < len(holder) else None
        shape = shape.member if isinstance(step, int) else shape.members[step]
        if inner is None:
            inner = [] if isinstance(following, int) else _blank(shape)
            if isinstance(step, int):
                holder.append(inner)
            else:
                holder[step] = inner
        holder = inner
    last = cell.path[-1]
    if isinstance(last, int):
        holder[last:] = [cell.value]
    elif cell.value is None:
        holder.pop(last, None)
    else:
        holder[last] = cell.value
    return broken


def _blank(shape: Any) -> dict[str, Any]:
    if shape.type_name != "structure":
        return {}
    return {name: _filler(shape.members[name]) for name in shape.required_members}
