"""The command line of the local mode.

Zone: reads the one secret a user may configure, from a file, never from the command line or environment.
"""

import argparse
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from datakeys.contract.environment import Address

DEFAULT_ACCOUNT: Final = "123456789012"
DEFAULT_REGION: Final = "us-east-1"

_ACCOUNT: Final = re.compile(r"\d{12}", re.ASCII)
_REGION: Final = re.compile(r"[a-z]{2,}(-[a-z]+){1,3}-\d{1,2}", re.ASCII)
_ACCESS_KEY_ID: Final = re.compile(r"[A-Za-z0-9_]{1,128}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The one pair of credentials that is accepted."""

    access_key_id: str
    secret_access_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Arguments:
    """What the user asked for.

    Attributes:
        region: The only Region that is served, or None: every Region is, each with keys of its own.
        data_directory: None keeps everything in memory.
        credentials: None accepts every well-formed signature.
        unsigned_allowed: Requests without a signature are accepted too.
    """

    listen: Address
    data_directory: Path | None
    region: str | None
    account: str
    credentials: Credentials | None
    unsigned_allowed: bool = False


def is_region(text: str) -> bool:
    """Return whether a text has the form of an AWS Region's name."""
    return _REGION.fullmatch(text) is not None


def parse_arguments(arguments: Sequence[str]) -> Arguments:
    """Parse the command line; print what is wrong and exit with code 2 if it can't be.

    Raises:
        SystemExit: Help was asked for, or an argument is wrong.
    """
    parser = _build_parser()
    given = parser.parse_args(arguments)
    if (given.access_key_id is None) != (given.secret_access_key_file is None):
        parser.error("--access-key-id and --secret-access-key-file belong together")
    if given.access_key_id is not None and given.allow_unsigned:
        parser.error("--allow-unsigned makes --access-key-id useless")
    credentials = None
    if given.access_key_id is not None:
        try:
            credentials = Credentials(given.access_key_id, _read_secret(given.secret_access_key_file))
        except (OSError, ValueError) as error:
            parser.error(f"--secret-access-key-file: {error}")
    return Arguments(
        given.listen, given.data_dir, given.region, given.account, credentials, given.allow_unsigned
    )


def _build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m datakeys.keyservice",
        description="With no argument: the key service of a cluster, with settings from the environment. "
        "With --local: an AWS KMS for tests on this machine, without Kubernetes.",
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("--local", action="store_true", required=True, help="run the local mode")
    add(
        "--listen",
        type=_address,
        default="127.0.0.1:8080",
        metavar="HOST:PORT",
        help="plain HTTP; port 0 takes a free one (default: %(default)s)",
    )
    add(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="keep keys here, for one process at a time (default: in memory)",
    )
    add("--region", type=_region, help="serve this Region only (default: all, each with its own keys)")
    add("--account", type=_account, default=DEFAULT_ACCOUNT, help="12 digits (default: %(default)s)")
    add("--access-key-id", type=_access_key_id, metavar="ID", help="accept only this (default: any)")
    add("--secret-access-key-file", type=Path, metavar="FILE", help="holds its secret access key")
    add("--allow-unsigned", action="store_true", help="accept requests without a signature, as of curl")
    return parser


def _address(text: str) -> Address:
    try:
        return Address.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _region(text: str) -> str:
    if not is_region(text):
        raise argparse.ArgumentTypeError(f"{text!r} isn't a Region's name")
    return text


def _account(text: str) -> str:
    if not _ACCOUNT.fullmatch(text):
        raise argparse.ArgumentTypeError(f"{text!r} isn't 12 digits")
    return text


def _access_key_id(text: str) -> str:
    if not _ACCESS_KEY_ID.fullmatch(text):
        raise argparse.ArgumentTypeError("1..128 letters, digits and _")
    return text


def _read_secret(path: Path) -> str:
    secret = path.read_text("utf-8").strip()
    if not secret:
        raise ValueError(f"{path} is empty")
    return secret
