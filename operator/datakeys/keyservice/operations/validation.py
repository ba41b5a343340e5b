"""Read the members of a request: wrong types fail at once, broken constraints are collected.

Zone: no key material beyond the members themselves; messages never quote a blob.
Source: kms-semantics section 1.7 for the texts; wrong JSON types are a SerializationException.
"""

import base64
import binascii
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from datakeys.contract.errors import SerializationError, ValidationError

_SHOWN_CHARACTERS: Final = 128
#: In seconds; also keeps out infinity and what isn't a number.
_MAX_TIMESTAMP: Final = 1e12
_TYPES: Final = {str: "string", int: "integer", bool: "boolean", list: "list", dict: "map"}


def member_name(name: str) -> str:
    """Return a member's name as validation messages write it: ``KeyId`` becomes ``keyId``."""
    return name[0].lower() + name[1:]


class Members:
    """The members of one request. Call `finish` after the last one is read."""

    __slots__ = ("_failures", "_prefix", "_raw")

    def __init__(self, raw: Mapping[str, Any]) -> None:
        self._raw = raw
        self._prefix = ""
        self._failures: list[str] = []

    def structures(self, name: str) -> "list[Members]":
        """Return an optional list of structures; their failures are collected here, by their place.

        Raises:
            SerializationError: It isn't a list of objects.
        """
        items = self._typed(name, list) or []
        if not all(isinstance(item, dict) for item in items):
            raise SerializationError(f"Member {name} must be a list of structures")
        inner = [Members(item) for item in items]
        for position, item in enumerate(inner, 1):
            item._failures = self._failures  # noqa: SLF001 - of this class
            item._prefix = f"{self._prefix}{member_name(name)}.{position}.member."  # noqa: SLF001
        return inner

    def has(self, name: str) -> bool:
        """Return whether a member is given and not null."""
        return self._raw.get(name) is not None

    def string(
        self,
        name: str,
        *,
        minimum: int = 0,
        maximum: int | None = None,
        pattern: re.Pattern[str] | None = None,
    ) -> str:
        """Return an optional string; empty if absent. Lengths are in characters.

        Raises:
            SerializationError: It isn't a string.
        """
        value = self._raw.get(name)
        if value is None:
            return ""
        if type(value) is not str:
            raise _wrong_type(name, str)
        self._check_length(name, value, minimum, maximum)
        if pattern is not None and not pattern.fullmatch(value):
            self._fail(name, value, f"satisfy regular expression pattern: {pattern.pattern}")
        return value

    def required_string(
        self,
        name: str,
        *,
        minimum: int = 1,
        maximum: int | None = None,
        pattern: re.Pattern[str] | None = None,
    ) -> str:
        """Return a required string; its absence is a collected failure.

        Raises:
            SerializationError: It isn't a string.
        """
        if self._raw.get(name) is None:
            self.fail_null(name)
            return ""
        return self.string(name, minimum=minimum, maximum=maximum, pattern=pattern)

    def enum(self, name: str, values: Sequence[str], default: str = "") -> str:
        """Return an optional member of an enumeration.

        Raises:
            SerializationError: It isn't a string.
        """
        value = self._raw.get(name)
        if value is None:
            return default
        if type(value) is not str:
            raise _wrong_type(name, str)
        if value not in values:
            self._fail(name, value, f"satisfy enum value set: [{', '.join(values)}]")
            return default
        return value

    def required_enum(self, name: str, values: Sequence[str]) -> str:
        """Return a required member of an enumeration; its absence is a collected failure.

        Raises:
            SerializationError: It isn't a string.
        """
        if not self.has(name):
            self.fail_null(name)
        return self.enum(name, values)

    def integer(self, name: str, *, minimum: int, maximum: int) -> int | None:
        """Return an optional integer.

        Raises:
            SerializationError: It isn't an integer.
        """
        value = self._raw.get(name)
        if value is None:
            return None
        if type(value) is not int:
            raise SerializationError(f"Member {name} must be an integer")
        if value < minimum:
            self._fail(name, value, f"have value greater than or equal to {minimum}")
        elif value > maximum:
            self._fail(name, value, f"have value less than or equal to {maximum}")
        return value

    def timestamp(self, name: str) -> float | None:
        """Return an optional time in seconds since the epoch.

        Raises:
            SerializationError: It isn't a number, or far out of bounds.
        """
        value = self._raw.get(name)
        if value is None:
            return None
        if type(value) not in (int, float) or not abs(value) <= _MAX_TIMESTAMP:
            raise SerializationError(f"Member {name} must be a timestamp")
        return float(value)

    def boolean(self, name: str) -> bool:
        """Return an optional boolean; false if absent.

        Raises:
            SerializationError: It isn't a boolean.
        """
        value = self._raw.get(name)
        if value is None:
            return False
        if type(value) is not bool:
            raise _wrong_type(name, bool)
        return value

    def blob(self, name: str, *, maximum: int) -> bytes:
        """Return a required blob of 1..maximum bytes from its base64; failures leave the value out.

        Raises:
            SerializationError: It isn't a string of standard base64 with padding.
        """
        value = self._typed(name, str)
        if value is None:
            self.fail_null(name)
            return b""
        try:
            raw = base64.b64decode(value, validate=True)
        except (binascii.Error, ValueError):
            raise SerializationError(f"Member {name} must be base64") from None
        if not 1 <= len(raw) <= maximum:
            bound = f"less than or equal to {maximum}" if raw else "greater than or equal to 1"
            self.fail(
                f"Value at '{self._prefix}{member_name(name)}' failed to satisfy constraint: "
                f"Member must have length {bound}"
            )
        return raw

    def string_map(self, name: str) -> dict[str, str]:
        """Return an optional map of strings to strings; absent, null and empty are the same.

        Raises:
            SerializationError: It isn't one. Numbers and booleans aren't read as strings.
        """
        value = self._raw.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict):
            raise SerializationError(f"Member {name} must be a map")
        for item in value.values():
            if type(item) is not str:
                raise SerializationError(f"Member {name} must map strings to strings")
        return value

    def string_list(self, name: str, *, maximum_items: int, maximum_length: int) -> list[str]:
        """Return an optional list of strings of 1..maximum_length characters.

        Raises:
            SerializationError: It isn't a list of strings.
        """
        value = self._typed(name, list)
        if value is None:
            return []
        if not all(isinstance(item, str) for item in value):
            raise SerializationError(f"Member {name} must be a list of strings")
        if len(value) > maximum_items:
            self._fail(name, f"{len(value)} items", f"have length less than or equal to {maximum_items}")
        for item in value[:maximum_items]:
            self._check_length(name, item, 1, maximum_length)
        return list(value)

    def enum_list(self, name: str, values: Sequence[str]) -> list[str]:
        """Return an optional list of members of an enumeration; empty if absent.

        Raises:
            SerializationError: It isn't a list of strings.
        """
        if not self.has(name):
            return []
        given = self.string_list(name, maximum_items=len(values), maximum_length=256)
        if not given:
            self._fail(name, given, "have length greater than or equal to 1")
        if not set(given) <= set(values):
            self._fail(name, given, f"satisfy enum value set: [{', '.join(values)}]")
        return given

    def raw(self, name: str, kind: type) -> Any:  # noqa: ANN401 - JSON
        """Return an optional member of a JSON type, or None.

        Raises:
            SerializationError: It has another type.
        """
        return self._typed(name, kind)

    def fail(self, text: str) -> None:
        """Collect a failure in words of its own."""
        self._failures.append(text)

    def fail_null(self, name: str) -> None:
        """Collect that a required member is missing."""
        self.fail(
            f"Value null at '{self._prefix}{member_name(name)}' failed to satisfy constraint: "
            "Member must not be null"
        )

    def finish(self) -> None:
        """Report what was collected.

        Raises:
            ValidationError: At least one constraint is broken.
        """
        if self._failures:
            count = len(self._failures)
            noun = "error" if count == 1 else "errors"
            raise ValidationError(f"{count} validation {noun} detected: " + "; ".join(self._failures))

    def _typed(self, name: str, kind: type) -> Any:  # noqa: ANN401 - JSON
        value = self._raw.get(name)
        if value is not None and type(value) is not kind:
            raise _wrong_type(name, kind)
        return value

    def _check_length(self, name: str, value: str, minimum: int, maximum: int | None) -> None:
        length = len(value)
        if length < minimum:
            self._fail(name, value, f"have length greater than or equal to {minimum}")
        elif maximum is not None and length > maximum:
            self._fail(name, value, f"have length less than or equal to {maximum}")

    def _fail(self, name: str, value: object, rule: str) -> None:
        shown = str(value)[:_SHOWN_CHARACTERS]
        self.fail(
            f"Value '{shown}' at '{self._prefix}{member_name(name)}' failed to satisfy constraint: "
            f"Member must {rule}"
        )


def _wrong_type(name: str, kind: type) -> SerializationError:
    return SerializationError(f"Member {name} must be a {_TYPES[kind]}")
