"""Grant tokens: they name a grant, carry a MAC, aren't secret, and give nothing to another than the grantee.

Zone: no key material but the root key's handle. Source: kms-semantics section 4.2. A grant is effective as
soon as it is in memory; a genuine token of one that isn't there yet makes this replica look it up in the
store, so a token works at once on every replica.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Sequence
from typing import Final

from datakeys.contract.errors import InvalidGrantTokenError
from datakeys.keyservice.material.derive import RandomSource
from datakeys.keyservice.material.root_key import MAC_BYTES, RootKey
from datakeys.keyservice.operations.call import Call, Service, WouldBlockError
from datakeys.keyservice.store.grant_record import GrantRecord

TOKEN_FORMAT_V1: Final = 1
_KEY_ID_BYTES: Final = 16
_GRANT_ID_BYTES: Final = 32
_SALT_BYTES: Final = 16
_CONTENT_BYTES: Final = 1 + _KEY_ID_BYTES + _GRANT_ID_BYTES + _SALT_BYTES
_TEXT: Final = re.compile(r"[A-Za-z0-9_-]+")


def build_grant_token(root_key: RootKey, key_id: str, grant_id: str, random: RandomSource) -> str:
    """Return a new token in base64url: version, key id, grant id, salt (65 bytes) and MAC (32)."""
    content = (
        bytes([TOKEN_FORMAT_V1])
        + bytes.fromhex(key_id.replace("-", ""))
        + bytes.fromhex(grant_id)
        + random(_SALT_BYTES)
    )
    return base64.urlsafe_b64encode(content + root_key.mac_grant_token(content)).decode().rstrip("=")


def parse_grant_token(root_key: RootKey, token: str) -> tuple[str, str]:
    """Return key id and grant id of a genuine token.

    Raises:
        InvalidGrantTokenError: It isn't one of this service.
    """
    if not _TEXT.fullmatch(token):
        raise InvalidGrantTokenError("The grant token is not valid.")
    try:
        raw = base64.urlsafe_b64decode(token + "=" * (-len(token) % 4))
    except (binascii.Error, ValueError):
        raise InvalidGrantTokenError("The grant token is not valid.") from None
    content, mac = raw[:-MAC_BYTES], raw[-MAC_BYTES:]
    if len(content) != _CONTENT_BYTES or not hmac.compare_digest(mac, root_key.mac_grant_token(content)):
        raise InvalidGrantTokenError("The grant token is not valid.")
    if content[0] != TOKEN_FORMAT_V1:
        raise InvalidGrantTokenError(
            f"The grant token has format version {content[0]}, this key service reads {TOKEN_FORMAT_V1} only."
        )
    digits = content[1 : 1 + _KEY_ID_BYTES].hex()
    key_id = f"{digits[:8]}-{digits[8:12]}-{digits[12:16]}-{digits[16:20]}-{digits[20:]}"
    return key_id, content[1 + _KEY_ID_BYTES : -_SALT_BYTES].hex()


def names_key(root_key: RootKey, tokens: Sequence[str], key_id: str) -> bool:
    """Return whether one of the tokens is a genuine one for a key."""
    for token in tokens:
        try:
            if parse_grant_token(root_key, token)[0] == key_id:
                return True
        except InvalidGrantTokenError:
            continue
    return False


def find_granted(service: Service, call: Call, token: str) -> GrantRecord:
    """Return the grant that a token names, from memory or from the store.

    Raises:
        InvalidGrantTokenError: The token is malformed, or its grant is gone.
        DependencyTimeoutError: The store can't be reached.
        WouldBlockError: The call may not block, but must ask the store.
    """
    key_id, grant_id = parse_grant_token(service.root_key, token)
    grant = service.store.find_grant(key_id, grant_id)
    if grant is None:
        if not call.may_block:
            raise WouldBlockError
        grant = service.store.refresh_grant(key_id, grant_id)
    if grant is None:
        raise InvalidGrantTokenError("The grant token is not valid.")
    return grant


def check_grant_tokens(service: Service, call: Call, tokens: Sequence[str]) -> None:
    """Check that every token names an existing grant.

    Raises:
        InvalidGrantTokenError: One doesn't.
        DependencyTimeoutError: The store can't be reached.
        WouldBlockError: The call may not block, but must ask the store.
    """
    for token in tokens:
        find_granted(service, call, token)
