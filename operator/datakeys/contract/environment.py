"""How the processes read their settings from texts. Zone: no secrets, no I/O: the environment is an argument.

Each error names the variable. A variable that is set but empty counts as absent, as charts write it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Self

_MAX_PORT: Final = 65_535


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parse ``host:port``, the port 0..65535; an IPv6 host may stand in brackets.

        Raises:
            ValueError: The text has another form.
        """
        host, _, port = text.rpartition(":")
        if not host or not port.isascii() or not port.isdecimal() or int(port) > _MAX_PORT:
            raise ValueError(f"{text!r} isn't host:port")
        return cls(host.strip("[]"), int(port))


def read_required(environment: Mapping[str, str], name: str) -> str:
    """Return a variable that has no default.

    Raises:
        ValueError: It isn't set.
    """
    text = environment.get(name, "")
    if not text:
        raise ValueError(f"{name} must be set")
    return text


def read_flag(environment: Mapping[str, str], name: str, *, default: bool) -> bool:
    """Return a variable that is true or false, in any spelling of its letters' case.

    Raises:
        ValueError: It is something else.
    """
    text = environment.get(name) or str(default)
    if text.lower() not in ("true", "false"):
        raise ValueError(f"{name} must be true or false")
    return text.lower() == "true"


def read_address(environment: Mapping[str, str], name: str, default: str) -> Address:
    """Return a variable that says where to listen.

    Raises:
        ValueError: It isn't ``host:port``.
    """
    try:
        return Address.parse(environment.get(name) or default)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from None
