"""DescribeKey: the metadata of a key, in every state.

Zone: no key material. Source: AWS KMS API, DescribeKey.
"""

from typing import Any, Final

from datakeys.keyservice.operations.access import read_grant_tokens, read_key_id, resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.key_metadata import build_key_metadata
from datakeys.keyservice.operations.validation import Members

NAME: Final = "DescribeKey"


def describe_key(service: Service, call: Call) -> dict[str, Any]:
    """Answer KeyMetadata; the KeyId may have any of its four forms.

    Raises:
        ValidationError: A constraint is broken.
        NotFoundError: No such key or alias.
        InvalidGrantTokenError: A grant token is malformed or unknown.
        AccessDeniedError: Not allowed.
    """
    members = Members(call.body)
    key_id = read_key_id(members)
    tokens = read_grant_tokens(members)
    members.finish()
    record = resolve(service, call, NAME, key_id, grant_tokens=tokens)
    return {"KeyMetadata": build_key_metadata(record, call.audit.key_arn)}
