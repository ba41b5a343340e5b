"""One table of good requests: for every operation, what an account's root sends so that it succeeds.

Zone: tests. Members are spelled as an AWS client does. The client tests, the validation tests, the fuzzer and
the conformance page all read this table, so an operation without a case can't hide.
"""

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Final

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.serialization import load_der_public_key

#: Calls an operation: ``kms("DescribeKey", KeyId=...)``.
Kms = Callable[..., dict[str, Any]]
Members = dict[str, Any]

ROLE: Final = "arn:aws:iam::123456789012:role/app"
ROOT: Final = "arn:aws:iam::123456789012:root"
CONTEXT: Final = {"tenant": "Zoë", "purpose": "test"}
DRY_RUN: Final = "DryRunOperationException"
POLICY: Final = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [
            {"Sid": "root", "Effect": "Allow", "Principal": {"AWS": ROOT}, "Action": "kms:*", "Resource": "*"}
        ],
    }
)


@dataclass(frozen=True)
class Case:
    """One good request.

    Attributes:
        operation: The operation.
        name: What is special about it.
        build: Prepares what the request needs and returns its members.
        error: The error that is its success: that of a dry run.
    """

    operation: str
    name: str
    build: Callable[[Kms], Members]
    error: str = ""

    @property
    def id(self) -> str:
        """Return a readable name of the case."""
        return f"{self.operation}-{self.name}"


CASES: Final[dict[str, list[Case]]] = {}


def _add(operation: str, name: str, build: Callable[[Kms], Members], error: str = "") -> None:
    CASES.setdefault(operation, []).append(Case(operation, name, build, error))


def _constant(members: Members, _: Kms) -> Members:
    return dict(members)


def _key(kms: Kms, **members: Any) -> str:
    return str(kms("CreateKey", **members)["KeyMetadata"]["Arn"])


def _on_key(
    operation: str, name: str, members: Mapping[str, Any] | None = None, error: str = "", **key: Any
) -> None:
    """Add a case whose members are constant but for the id of a new key."""
    _add(operation, name, lambda kms: {"KeyId": _key(kms, **key), **(members or {})}, error)


def _token(kms: Kms, key: str, operation: str) -> str:
    grant = kms("CreateGrant", KeyId=key, GranteePrincipal=ROLE, Operations=[operation])
    return str(grant["GrantToken"])


def _with_token(operation: str, members: Mapping[str, Any] | None = None, **key: Any) -> None:
    """Add a case with a grant token, and one that is a dry run if the operation has them."""

    def build(kms: Kms) -> Members:
        arn = _key(kms, **key)
        return {"KeyId": arn, "GrantTokens": [_token(kms, arn, operation)], **(members or {})}

    _add(operation, "grant token", build)


# --- keys -------------------------------------------------------------------------------------------------

RSA_SIGNING: Final[dict[str, Any]] = {"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}
RSA_ENCRYPTION: Final[dict[str, Any]] = {"KeySpec": "RSA_2048", "KeyUsage": "ENCRYPT_DECRYPT"}
EXTERNAL: Final[dict[str, Any]] = {"Origin": "EXTERNAL"}

#: Every pair of spec and usage that this service offers with its material.
KEY_TYPES: Final = (
    ("RSA_2048", "SIGN_VERIFY"),
    ("RSA_2048", "ENCRYPT_DECRYPT"),
    ("RSA_3072", "SIGN_VERIFY"),
    ("RSA_4096", "SIGN_VERIFY"),
    ("ECC_NIST_P256", "SIGN_VERIFY"),
    ("ECC_NIST_P384", "SIGN_VERIFY"),
    ("ECC_NIST_P521", "SIGN_VERIFY"),
    ("ECC_SECG_P256K1", "SIGN_VERIFY"),
    ("ECC_NIST_EDWARDS25519", "SIGN_VERIFY"),
    ("ML_DSA_44", "SIGN_VERIFY"),
    ("ML_DSA_65", "SIGN_VERIFY"),
    ("ML_DSA_87", "SIGN_VERIFY"),
    ("HMAC_224", "GENERATE_VERIFY_MAC"),
    ("HMAC_256", "GENERATE_VERIFY_MAC"),
    ("HMAC_384", "GENERATE_VERIFY_MAC"),
    ("HMAC_512", "GENERATE_VERIFY_MAC"),
)

_add("CreateKey", "no members", lambda _: {})
_add(
    "CreateKey",
    "all members",
    lambda _: {
        "Policy": POLICY,
        "Description": "a key",
        "KeyUsage": "ENCRYPT_DECRYPT",
        "KeySpec": "SYMMETRIC_DEFAULT",
        "Origin": "AWS_KMS",
        "BypassPolicyLockoutSafetyCheck": True,
        "Tags": [{"TagKey": "team", "TagValue": "a"}, {"TagKey": "empty", "TagValue": ""}],
        "MultiRegion": False,
    },
)
_add("CreateKey", "old name of the spec", lambda _: {"CustomerMasterKeySpec": "SYMMETRIC_DEFAULT"})
_add("CreateKey", "external", lambda _: dict(EXTERNAL))
for _spec, _usage in KEY_TYPES:
    _add("CreateKey", f"{_spec} {_usage}", partial(_constant, {"KeySpec": _spec, "KeyUsage": _usage}))

_on_key("DescribeKey", "key ARN")
_with_token("DescribeKey")
_add("DescribeKey", "key id", lambda kms: {"KeyId": _key(kms).rpartition("/")[2]})
_add("DescribeKey", "alias name", lambda kms: {"KeyId": _alias(kms, _key(kms))})
_add("DescribeKey", "alias ARN", lambda kms: {"KeyId": _alias_arn(kms, _key(kms))})
_on_key("DescribeKey", "asymmetric", **RSA_SIGNING)
_add("DescribeKey", "pending deletion", lambda kms: {"KeyId": _pending(kms)})

_on_key("DisableKey", "enabled")
_on_key("EnableKey", "enabled already")
_add("EnableKey", "disabled", lambda kms: {"KeyId": _disabled(kms)})
_on_key("ScheduleKeyDeletion", "default window")
_on_key("ScheduleKeyDeletion", "seven days", {"PendingWindowInDays": 7})
_add("CancelKeyDeletion", "pending", lambda kms: {"KeyId": _pending(kms)})
_on_key("UpdateKeyDescription", "new text", {"Description": "another"})
_on_key("UpdateKeyDescription", "emptied", {"Description": ""})
_on_key(
    "TagResource", "two tags", {"Tags": [{"TagKey": "a", "TagValue": "1"}, {"TagKey": "b", "TagValue": ""}]}
)
_on_key("UntagResource", "one tag", {"TagKeys": ["a"]}, Tags=[{"TagKey": "a", "TagValue": "1"}])
_on_key("ListResourceTags", "one tag", Tags=[{"TagKey": "a", "TagValue": "1"}])
_on_key(
    "ListResourceTags",
    "first page",
    {"Limit": 1},
    Tags=[{"TagKey": "a", "TagValue": "1"}, {"TagKey": "b", "TagValue": "2"}],
)


def _disabled(kms: Kms) -> str:
    arn = _key(kms)
    kms("DisableKey", KeyId=arn)
    return arn


def _pending(kms: Kms) -> str:
    arn = _key(kms)
    kms("ScheduleKeyDeletion", KeyId=arn)
    return arn


def _second_page(operation: str, prepare: Callable[[Kms], Members]) -> None:
    """Add the case of a second page: Limit and Marker."""

    def build(kms: Kms) -> Members:
        members = {**prepare(kms), "Limit": 1}
        first = kms(operation, **members)
        assert first["Truncated"] is True
        return {**members, "Marker": first["NextMarker"]}

    _add(operation, "second page", build)


def _two_keys(kms: Kms) -> Members:
    _key(kms)
    _key(kms)
    return {}


_add("ListKeys", "all", _two_keys)
_add("ListKeys", "owner", lambda kms: {**_two_keys(kms), "ResourceOwners": ["SELF"]})
_second_page("ListKeys", _two_keys)
_second_page(
    "ListResourceTags",
    lambda kms: {"KeyId": _key(kms, Tags=[{"TagKey": k, "TagValue": "v"} for k in ("a", "b")])},
)

# --- aliases ----------------------------------------------------------------------------------------------


def _name() -> str:
    return f"alias/case-{os.urandom(8).hex()}"


def _alias(kms: Kms, key: str) -> str:
    name = _name()
    kms("CreateAlias", AliasName=name, TargetKeyId=key)
    return name


def _alias_arn(kms: Kms, key: str) -> str:
    return f"{key.rpartition(':')[0]}:{_alias(kms, key)}"


def _aliases(kms: Kms) -> Members:
    """Make three: a second page of one item has a third then, so that NextMarker is seen."""
    arn = _key(kms)
    for _ in range(3):
        _alias(kms, arn)
    return {"KeyId": arn}


_add("CreateAlias", "key ARN", lambda kms: {"AliasName": _name(), "TargetKeyId": _key(kms)})
_add("CreateAlias", "key id", lambda kms: {"AliasName": _name(), "TargetKeyId": _key(kms).rpartition("/")[2]})
_add(
    "UpdateAlias", "another key", lambda kms: {"AliasName": _alias(kms, _key(kms)), "TargetKeyId": _key(kms)}
)
_add("DeleteAlias", "existing", lambda kms: {"AliasName": _alias(kms, _key(kms))})
_add("ListAliases", "all", lambda kms: _pick(_aliases(kms)))
_add("ListAliases", "of one key", _aliases)
_second_page("ListAliases", _aliases)

# --- grants -----------------------------------------------------------------------------------------------

_GRANT: Final = {"GranteePrincipal": ROLE, "Operations": ["Encrypt", "Decrypt"]}
_on_key("CreateGrant", "smallest", _GRANT)
_on_key(
    "CreateGrant",
    "named, subset",
    {
        **_GRANT,
        "RetiringPrincipal": ROLE,
        "Name": "grant-1",
        "Constraints": {"EncryptionContextSubset": CONTEXT},
    },
)
_on_key("CreateGrant", "equals", {**_GRANT, "Constraints": {"EncryptionContextEquals": CONTEXT}})
_on_key("CreateGrant", "dry run", {**_GRANT, "DryRun": True}, DRY_RUN)
_with_token("CreateGrant", _GRANT)


def _grant(kms: Kms, **members: Any) -> Members:
    arn = _key(kms)
    answer = kms("CreateGrant", KeyId=arn, **{**_GRANT, **members})
    return {"KeyId": arn, "GrantId": answer["GrantId"], "GrantToken": answer["GrantToken"]}


def _pick(members: Members, *names: str) -> Members:
    return {name: members[name] for name in names}


def _grants(kms: Kms) -> Members:
    arn = _key(kms)
    for constraint in ("EncryptionContextSubset", "EncryptionContextEquals"):
        named = {"Name": constraint, "RetiringPrincipal": ROLE, "Constraints": {constraint: CONTEXT}}
        kms("CreateGrant", KeyId=arn, **_GRANT, **named)
    kms("CreateGrant", KeyId=arn, **_GRANT)
    return {"KeyId": arn}


_add("ListGrants", "all of a key", _grants)
_add("ListGrants", "by id", lambda kms: _pick(_grant(kms), "KeyId", "GrantId"))
_add("ListGrants", "by grantee", lambda kms: {**_grants(kms), "GranteePrincipal": ROLE})
_second_page("ListGrants", _grants)


def _retirable(kms: Kms) -> Members:
    _grants(kms)
    return {"RetiringPrincipal": ROLE}


_add("ListRetirableGrants", "of a role", _retirable)
_second_page("ListRetirableGrants", _retirable)
_add("RetireGrant", "by token", lambda kms: _pick(_grant(kms), "GrantToken"))
_add("RetireGrant", "by id", lambda kms: _pick(_grant(kms), "KeyId", "GrantId"))
_add("RetireGrant", "dry run", lambda kms: {**_pick(_grant(kms), "GrantToken"), "DryRun": True}, DRY_RUN)
_add("RevokeGrant", "by id", lambda kms: _pick(_grant(kms), "KeyId", "GrantId"))
_add(
    "RevokeGrant", "dry run", lambda kms: {**_pick(_grant(kms), "KeyId", "GrantId"), "DryRun": True}, DRY_RUN
)

# --- policies ---------------------------------------------------------------------------------------------

_on_key("GetKeyPolicy", "default policy")
_on_key("GetKeyPolicy", "named", {"PolicyName": "default"}, Policy=POLICY)
_on_key("PutKeyPolicy", "smallest", {"Policy": POLICY})
_on_key(
    "PutKeyPolicy",
    "all members",
    {"PolicyName": "default", "Policy": POLICY, "BypassPolicyLockoutSafetyCheck": True},
)
_on_key("ListKeyPolicies", "all")
_on_key("ListKeyPolicies", "limit", {"Limit": 1})

# --- rotation ---------------------------------------------------------------------------------------------


def _rotating(kms: Kms) -> Members:
    arn = _key(kms)
    kms("EnableKeyRotation", KeyId=arn, RotationPeriodInDays=100)
    return {"KeyId": arn}


def _rotated(kms: Kms, times: int = 2) -> Members:
    arn = _key(kms)
    for _ in range(times):
        kms("RotateKeyOnDemand", KeyId=arn)
    return {"KeyId": arn}


_on_key("EnableKeyRotation", "default period")
_on_key("EnableKeyRotation", "ninety days", {"RotationPeriodInDays": 90})
_add("DisableKeyRotation", "enabled before", _rotating)
_on_key("GetKeyRotationStatus", "off")
_add("GetKeyRotationStatus", "on", _rotating)
_on_key("RotateKeyOnDemand", "enabled")
_add("ListKeyRotations", "rotated", _rotated)
_add(
    "ListKeyRotations",
    "all material",
    lambda kms: {**_rotated(kms), "IncludeKeyMaterial": "ALL_KEY_MATERIAL"},
)
_second_page("ListKeyRotations", lambda kms: _rotated(kms, times=3))

# --- import -----------------------------------------------------------------------------------------------

_OAEP: Final = {"WrappingAlgorithm": "RSAES_OAEP_SHA_256", "WrappingKeySpec": "RSA_2048"}


def wrap(public_key: bytes, material: bytes) -> bytes:
    """Encrypt material to the public key of GetParametersForImport, RSAES_OAEP_SHA_256."""
    key = load_der_public_key(public_key)
    assert isinstance(key, rsa.RSAPublicKey)
    return key.encrypt(material, padding.OAEP(padding.MGF1(hashes.SHA256()), hashes.SHA256(), None))


def import_members(kms: Kms, arn: str, material: bytes) -> Members:
    """Return what ImportKeyMaterial needs for 32 bytes of material."""
    parameters = kms("GetParametersForImport", KeyId=arn, **_OAEP)
    sealed = wrap(parameters["PublicKey"], material)
    return {"KeyId": arn, "ImportToken": parameters["ImportToken"], "EncryptedKeyMaterial": sealed}


_FOREVER: Final = {"ExpirationModel": "KEY_MATERIAL_DOES_NOT_EXPIRE"}


def _imported(kms: Kms) -> Members:
    arn = _key(kms, **EXTERNAL)
    return kms("ImportKeyMaterial", **import_members(kms, arn, os.urandom(32)), **_FOREVER)


def _import_again(kms: Kms) -> Members:
    arn, material = _key(kms, **EXTERNAL), os.urandom(32)
    first = kms("ImportKeyMaterial", **import_members(kms, arn, material), **_FOREVER)
    return {
        **import_members(kms, arn, material),
        "ImportType": "EXISTING_KEY_MATERIAL",
        "KeyMaterialId": first["KeyMaterialId"],
        "KeyMaterialDescription": "once more",
        **_FOREVER,
    }


_on_key("GetParametersForImport", "OAEP SHA-256", _OAEP, **EXTERNAL)
_on_key(
    "GetParametersForImport",
    "AES key wrap, RSA_3072",
    {"WrappingAlgorithm": "RSA_AES_KEY_WRAP_SHA_256", "WrappingKeySpec": "RSA_3072"},
    **EXTERNAL,
)
_add(
    "ImportKeyMaterial",
    "for ever",
    lambda kms: {**import_members(kms, _key(kms, **EXTERNAL), os.urandom(32)), **_FOREVER},
)
_add(
    "ImportKeyMaterial",
    "expires",
    lambda kms: {
        **import_members(kms, _key(kms, **EXTERNAL), os.urandom(32)),
        "ExpirationModel": "KEY_MATERIAL_EXPIRES",
        "ValidTo": datetime.now(UTC) + timedelta(days=10),
        "ImportType": "NEW_KEY_MATERIAL",
        "KeyMaterialDescription": "first",
    },
)
_add("ImportKeyMaterial", "the same again", _import_again)
_add("DeleteImportedKeyMaterial", "imported", lambda kms: _pick(_imported(kms), "KeyId"))
_add(
    "DeleteImportedKeyMaterial", "by material id", lambda kms: _pick(_imported(kms), "KeyId", "KeyMaterialId")
)
_add("DescribeKey", "imported", lambda kms: _pick(_imported(kms), "KeyId"))

# --- data keys, encryption --------------------------------------------------------------------------------

for _operation in ("GenerateDataKey", "GenerateDataKeyWithoutPlaintext"):
    _on_key(_operation, "AES_256", {"KeySpec": "AES_256"})
    _on_key(_operation, "1024 bytes, context", {"NumberOfBytes": 1024, "EncryptionContext": CONTEXT})
    _on_key(_operation, "dry run", {"KeySpec": "AES_128", "DryRun": True}, DRY_RUN)
    _with_token(_operation, {"KeySpec": "AES_128"})

for _operation in ("GenerateDataKeyPair", "GenerateDataKeyPairWithoutPlaintext"):
    for _spec in ("RSA_2048", "ECC_NIST_P256", "ECC_NIST_P384", "ECC_NIST_P521", "ECC_SECG_P256K1"):
        _on_key(_operation, _spec, {"KeyPairSpec": _spec, "EncryptionContext": CONTEXT})
    _on_key(_operation, "dry run", {"KeyPairSpec": "ECC_NIST_P256", "DryRun": True}, DRY_RUN)
    _with_token(_operation, {"KeyPairSpec": "ECC_NIST_P256"})

_add("GenerateRandom", "1 byte", lambda _: {"NumberOfBytes": 1})
_add("GenerateRandom", "1024 bytes", lambda _: {"NumberOfBytes": 1024})

_on_key("Encrypt", "context", {"Plaintext": b"text", "EncryptionContext": CONTEXT})
_on_key("Encrypt", "4096 bytes", {"Plaintext": bytes(4096), "EncryptionAlgorithm": "SYMMETRIC_DEFAULT"})
_on_key("Encrypt", "RSA", {"Plaintext": b"t", "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}, **RSA_ENCRYPTION)
_on_key("Encrypt", "dry run", {"Plaintext": b"text", "DryRun": True}, DRY_RUN)
_with_token("Encrypt", {"Plaintext": b"text"})


def _sealed(kms: Kms, **members: Any) -> Members:
    """Return what Decrypt needs for a new ciphertext."""
    arn = _key(kms)
    blob = kms("Encrypt", KeyId=arn, Plaintext=b"text", EncryptionContext=CONTEXT)["CiphertextBlob"]
    return {"CiphertextBlob": blob, "EncryptionContext": CONTEXT, "KeyId": arn, **members}


def _sealed_rsa(kms: Kms) -> Members:
    arn = _key(kms, **RSA_ENCRYPTION)
    algorithm = {"KeyId": arn, "EncryptionAlgorithm": "RSAES_OAEP_SHA_256"}
    return {"CiphertextBlob": kms("Encrypt", Plaintext=b"text", **algorithm)["CiphertextBlob"], **algorithm}


def _sealed_with_token(kms: Kms) -> Members:
    members = _sealed(kms)
    return {**members, "GrantTokens": [_token(kms, members["KeyId"], "Decrypt")]}


_add("Decrypt", "no key id", lambda kms: _pick(_sealed(kms), "CiphertextBlob", "EncryptionContext"))
_add("Decrypt", "key id", lambda kms: _sealed(kms, EncryptionAlgorithm="SYMMETRIC_DEFAULT"))
_add("Decrypt", "RSA", _sealed_rsa)
_add("Decrypt", "grant token", _sealed_with_token)
_add("Decrypt", "dry run", lambda kms: _sealed(kms, DryRun=True), DRY_RUN)


def _ignoring(kms: Kms) -> Members:
    return {"KeyId": _key(kms), "DryRun": True, "DryRunModifiers": ["IGNORE_CIPHERTEXT"]}


_add("Decrypt", "dry run with no ciphertext", _ignoring, DRY_RUN)


def _reencrypt(kms: Kms, **members: Any) -> Members:
    sealed = _sealed(kms)
    return {
        "CiphertextBlob": sealed["CiphertextBlob"],
        "SourceEncryptionContext": CONTEXT,
        "DestinationKeyId": _key(kms),
        **members,
    }


def _reencrypt_in_full(kms: Kms) -> Members:
    sealed, destination = _sealed(kms), _key(kms)
    return {
        "CiphertextBlob": sealed["CiphertextBlob"],
        "SourceKeyId": sealed["KeyId"],
        "SourceEncryptionContext": CONTEXT,
        "SourceEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        "DestinationKeyId": destination,
        "DestinationEncryptionContext": {"other": "context"},
        "DestinationEncryptionAlgorithm": "SYMMETRIC_DEFAULT",
        "GrantTokens": [
            _token(kms, sealed["KeyId"], "ReEncryptFrom"),
            _token(kms, destination, "ReEncryptTo"),
        ],
    }


def _reencrypt_ignoring(kms: Kms) -> Members:
    modifiers = {"DryRun": True, "DryRunModifiers": ["IGNORE_CIPHERTEXT"]}
    return {"SourceKeyId": _key(kms), "DestinationKeyId": _key(kms), **modifiers}


_add("ReEncrypt", "smallest", _reencrypt)
_add("ReEncrypt", "all members", _reencrypt_in_full)
_add("ReEncrypt", "dry run", lambda kms: _reencrypt(kms, DryRun=True), DRY_RUN)
_add("ReEncrypt", "dry run with no ciphertext", _reencrypt_ignoring, DRY_RUN)

# --- signatures, MACs -------------------------------------------------------------------------------------

#: Signing algorithm, key spec and length of the digest in bytes. 0: it signs whole messages only.
SIGNING: Final = (
    ("RSASSA_PKCS1_V1_5_SHA_256", "RSA_2048", 32),
    ("RSASSA_PKCS1_V1_5_SHA_384", "RSA_2048", 48),
    ("RSASSA_PKCS1_V1_5_SHA_512", "RSA_2048", 64),
    ("RSASSA_PSS_SHA_256", "RSA_2048", 32),
    ("RSASSA_PSS_SHA_384", "RSA_2048", 48),
    ("RSASSA_PSS_SHA_512", "RSA_2048", 64),
    ("ECDSA_SHA_256", "ECC_NIST_P256", 32),
    ("ECDSA_SHA_384", "ECC_NIST_P384", 48),
    ("ECDSA_SHA_512", "ECC_NIST_P521", 64),
    ("ECDSA_SHA_256", "ECC_SECG_P256K1", 32),
    ("ED25519_SHA_512", "ECC_NIST_EDWARDS25519", 0),
    ("ML_DSA_SHAKE_256", "ML_DSA_44", 0),
    ("ML_DSA_SHAKE_256", "ML_DSA_65", 0),
    ("ML_DSA_SHAKE_256", "ML_DSA_87", 0),
)
_P256: Final[dict[str, Any]] = {"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"}
_ECDSA: Final = {"Message": b"message", "SigningAlgorithm": "ECDSA_SHA_256"}


def _signed(kms: Kms, members: Members, key: dict[str, Any]) -> Members:
    arn = _key(kms, **key)
    signature = kms("Sign", KeyId=arn, **members)["Signature"]
    return {"KeyId": arn, **members, "Signature": signature}


for _algorithm, _spec, _digest in SIGNING:
    _type = {"KeySpec": _spec, "KeyUsage": "SIGN_VERIFY"}
    for _kind, _message in (("RAW", b"message"), ("DIGEST", bytes(_digest))):
        if not _message:
            continue
        _members = {"SigningAlgorithm": _algorithm, "MessageType": _kind, "Message": _message}
        _on_key("Sign", f"{_algorithm} {_spec} {_kind}", _members, **_type)
        _add(
            "Verify",
            f"{_algorithm} {_spec} {_kind}",
            partial(_signed, members=_members, key=_type),
        )
_on_key(
    "Sign",
    "ML_DSA_SHAKE_256 ML_DSA_65 EXTERNAL_MU",
    {"SigningAlgorithm": "ML_DSA_SHAKE_256", "MessageType": "EXTERNAL_MU", "Message": bytes(64)},
    KeySpec="ML_DSA_65",
    KeyUsage="SIGN_VERIFY",
)
_on_key("Sign", "dry run", {**_ECDSA, "DryRun": True}, DRY_RUN, **_P256)
_with_token("Sign", _ECDSA, **_P256)
_add("Verify", "dry run", lambda kms: {**_signed(kms, dict(_ECDSA), _P256), "DryRun": True}, DRY_RUN)


def _verify_with_token(kms: Kms) -> Members:
    members = _signed(kms, dict(_ECDSA), _P256)
    return {**members, "GrantTokens": [_token(kms, members["KeyId"], "Verify")]}


_add("Verify", "grant token", _verify_with_token)

for _spec, _usage in KEY_TYPES:
    if _usage != "GENERATE_VERIFY_MAC":
        _on_key("GetPublicKey", f"{_spec} {_usage}", KeySpec=_spec, KeyUsage=_usage)
_with_token("GetPublicKey", **_P256)

for _bits in (224, 256, 384, 512):
    _mac = {"Message": b"message", "MacAlgorithm": f"HMAC_SHA_{_bits}"}
    _type = {"KeySpec": f"HMAC_{_bits}", "KeyUsage": "GENERATE_VERIFY_MAC"}

    def _mac_of(kms: Kms, mac: Members = _mac, key: dict[str, str] = _type, **more: Any) -> Members:
        arn = _key(kms, **key)
        return {"KeyId": arn, **mac, "Mac": kms("GenerateMac", KeyId=arn, **mac)["Mac"], **more}

    _on_key("GenerateMac", f"HMAC_{_bits}", _mac, **_type)
    _add("VerifyMac", f"HMAC_{_bits}", _mac_of)
_on_key("GenerateMac", "dry run", {**_mac, "DryRun": True}, DRY_RUN, **_type)
_with_token("GenerateMac", _mac, **_type)
_add("VerifyMac", "dry run", lambda kms: _mac_of(kms, DryRun=True), DRY_RUN)


def _verify_mac_with_token(kms: Kms) -> Members:
    members = _mac_of(kms)
    return {**members, "GrantTokens": [_token(kms, members["KeyId"], "VerifyMac")]}


_add("VerifyMac", "grant token", _verify_mac_with_token)

#: Input members that no case uses, and why.
UNUSED_INPUTS: Final[Mapping[tuple[str, str], str]] = {
    **{
        (operation, "Recipient"): "there are no enclaves to attest"
        for operation in ("Decrypt", "GenerateDataKey", "GenerateDataKeyPair", "GenerateRandom")
    },
    **dict.fromkeys(
        (
            ("CreateGrant", "GranteeServicePrincipal"),
            ("CreateGrant", "RetiringServicePrincipal"),
            ("ListGrants", "GranteeServicePrincipal"),
            ("ListRetirableGrants", "RetiringServicePrincipal"),
        ),
        "there are no AWS services that could be a principal",
    ),
    ("CreateKey", "CustomKeyStoreId"): "there are no custom key stores",
    ("CreateKey", "XksKeyId"): "there are no custom key stores",
    ("GenerateRandom", "CustomKeyStoreId"): "there are no custom key stores",
    ("ListKeyPolicies", "Marker"): "a key has one policy, so there never is a second page",
}
#: Output members that no answer has, and why.
UNUSED_OUTPUTS: Final[Mapping[tuple[str, str], str]] = {
    **{
        (operation, "CiphertextForRecipient"): "there are no enclaves to attest"
        for operation in ("Decrypt", "GenerateDataKey", "GenerateDataKeyPair", "GenerateRandom")
    },
    ("ListKeyPolicies", "NextMarker"): "a key has one policy, so there never is a second page",
    ("GetKeyRotationStatus", "OnDemandRotationStartDate"): "a rotation on demand is over before its answer",
    ("GetPublicKey", "KeyAgreementAlgorithms"): "no operation for key agreement",
    ("GetPublicKey", "EncapsulationAlgorithms"): "no operation for key encapsulation",
}
