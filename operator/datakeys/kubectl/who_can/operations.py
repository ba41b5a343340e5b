"""What a person calls an operation, and what the key service calls it. Zone: no I/O."""

from typing import Final

from datakeys.contract.crd.kmsgrant import GrantOperation
from datakeys.kubectl.answers import UserError

DECRYPT: Final = GrantOperation.DECRYPT
#: Words for people, each with all operations that it stands for.
_WORDS: Final = {
    "decrypt": (GrantOperation.DECRYPT,),
    "encrypt": (GrantOperation.ENCRYPT,),
    "generate": (
        GrantOperation.GENERATE_DATA_KEY,
        GrantOperation.GENERATE_DATA_KEY_WITHOUT_PLAINTEXT,
        GrantOperation.GENERATE_DATA_KEY_PAIR,
        GrantOperation.GENERATE_DATA_KEY_PAIR_WITHOUT_PLAINTEXT,
    ),
}


def parse_operation(text: str) -> tuple[GrantOperation, ...]:
    """Return the operations of AWS KMS that a word stands for.

    Raises:
        UserError: There is no such operation.
    """
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    for operation in GrantOperation:
        if operation.lower() == text.lower():
            return (operation,)
    raise UserError(f"{text!r} is no operation: use {', '.join([*_WORDS, *GrantOperation])}")
