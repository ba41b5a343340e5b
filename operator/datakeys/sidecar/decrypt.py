"""The child process: reads the encrypted data keys, calls Decrypt, writes each plaintext to its file.

Zone: plaintext of this pod, for milliseconds. Python can't wipe its strings, so the process that held them
ends at once and the kernel clears its pages; it can't be traced or dumped, and prints neither bodies nor
tracebacks.
"""

# pathlib costs more memory and start time than this module does.
# ruff: noqa: PTH123

import errno
import os
import sys

from datakeys.contract.encrypted_data_key import (
    FIELD_CIPHERTEXT_BLOB,
    FIELD_ENCRYPTION_CONTEXT,
    FIELD_KEY_ARN,
    FIELD_KEY_MATERIAL_ID,
    EncryptedDataKey,
)
from datakeys.contract.encryption_context import PAIR_REQUEST
from datakeys.sidecar.advice import Failure, advise
from datakeys.sidecar.hygiene import lock_down_child
from datakeys.sidecar.keyservice_client import KeyServiceClient
from datakeys.sidecar.retry import FINAL, OK, RETRY
from datakeys.sidecar.settings import parse_bound_requests

_FIELDS = (FIELD_CIPHERTEXT_BLOB, FIELD_ENCRYPTION_CONTEXT, FIELD_KEY_ARN, FIELD_KEY_MATERIAL_ID)
#: A Secret holds at most 1 MiB in all.
_MAX_FIELD_BYTES = 1 << 20


def main() -> None:
    """Decrypt every named data key over one connection and report on each in one line on standard output.

    Arguments: URL of the key service, CA file, token file, folder of the encrypted data keys, then one
    ``<name>=<descriptor>`` per data key.
    """
    url, ca_file, token_file, directory, *targets = sys.argv[1:]
    lock_down_child()
    client = KeyServiceClient(url, ca_file=ca_file, token_file=token_file)
    bound = parse_bound_requests(os.environ.get("DATAKEYS_BOUND_REQUESTS", ""))
    for target in targets:
        name, _, fd = target.rpartition("=")
        stem = name.partition("@")[0]
        _report(name, *deliver(client, f"{directory}/{name}", int(fd), request=bound.get(stem, stem)))
    # No clean-up of the interpreter: the sooner the pages go, the better.
    os._exit(0)


def deliver(client: KeyServiceClient, folder: str, fd: int, *, request: str) -> tuple[str, str, str]:
    """Decrypt the data key of a request into a file; return outcome, error code and next step."""
    try:
        encrypted = read_encrypted_data_key(folder)
        # Any data key of this account would decrypt: a Secret exchanged as a whole is noticed here only.
        if encrypted.encryption_context.get(PAIR_REQUEST) != request:
            raise Failure("WrongRequest", retryable=False)  # noqa: TRY301 - one table of outcomes
        plaintext = client.decrypt(encrypted)
        _write(fd, plaintext)
    except Failure as failure:
        return (RETRY if failure.retryable else FINAL), failure.code, advise(failure.code)
    except Exception as error:  # noqa: BLE001 - the process edge: the type's name is all that may leave
        return RETRY, type(error).__name__, advise("")
    return OK, "", ""


def read_encrypted_data_key(folder: str) -> EncryptedDataKey:
    """Read the fields of one Secret.

    Raises:
        Failure: ``MissingInput`` if a file isn't there yet, ``InvalidInput`` if one is malformed.
    """
    try:
        fields = {field: _read(f"{folder}/{field}") for field in _FIELDS}
    except OSError:
        raise Failure("MissingInput", retryable=True) from None
    try:
        return EncryptedDataKey.from_fields(fields)
    except ValueError:
        raise Failure("InvalidInput", retryable=False) from None


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read(_MAX_FIELD_BYTES)


def _write(fd: int, data: bytes) -> None:
    view = memoryview(data)
    try:
        while view:
            view = view[os.write(fd, view) :]
    except OSError as error:
        if error.errno != errno.ENOSPC:
            raise
        raise Failure("VolumeFull", retryable=True) from None


def _report(name: str, outcome: str, code: str, next_step: str) -> None:
    os.write(1, f"{name}\t{outcome}\t{code}\t{next_step}\n".encode("ascii", "replace"))
