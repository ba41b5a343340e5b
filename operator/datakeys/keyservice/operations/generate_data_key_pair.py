"""GenerateDataKeyPair and GenerateDataKeyPairWithoutPlaintext: an asymmetric key pair for use outside.

Zone: the private key goes, in clear, into the answer of the first and nowhere else. Source: AWS KMS API; the
private key is PKCS#8 in DER, the public key SubjectPublicKeyInfo in DER.
"""

import base64
from typing import Any, Final

from datakeys.contract.key_types import KeySpec
from datakeys.keyservice.material.private_key import PrivateKey
from datakeys.keyservice.operations.access import read_grant_tokens, read_key_id, resolve
from datakeys.keyservice.operations.call import Call, Service
from datakeys.keyservice.operations.crypto_request import (
    finish,
    refuse_recipient,
    require_symmetric,
    stop_dry_run,
)
from datakeys.keyservice.operations.validation import Members

#: Source: AWS KMS API, shape DataKeyPairSpec.
KEY_PAIR_SPECS: Final = (
    KeySpec.RSA_2048,
    KeySpec.RSA_3072,
    KeySpec.RSA_4096,
    KeySpec.ECC_NIST_P256,
    KeySpec.ECC_NIST_P384,
    KeySpec.ECC_NIST_P521,
    KeySpec.ECC_SECG_P256K1,
    KeySpec.SM2,
    KeySpec.ECC_NIST_EDWARDS25519,
    KeySpec.ML_KEM_512,
    KeySpec.ML_KEM_768,
    KeySpec.ML_KEM_1024,
)


def generate_data_key_pair(service: Service, call: Call) -> dict[str, Any]:
    """Answer the pair, its private key encrypted and in clear, KeyId (the key ARN) and KeyMaterialId.

    Raises:
        KmsError: Any error of the operation's list, in the order of kms-semantics section 1.6.
    """
    answer, private_key = _generate(service, call, "GenerateDataKeyPair")
    return {**answer, "PrivateKeyPlaintext": base64.b64encode(private_key).decode()}


def generate_data_key_pair_without_plaintext(service: Service, call: Call) -> dict[str, Any]:
    """Answer the pair, its private key encrypted only, KeyId (the key ARN) and KeyMaterialId.

    Raises:
        KmsError: Any error of the operation's list, in the order of kms-semantics section 1.6.
    """
    return _generate(service, call, "GenerateDataKeyPairWithoutPlaintext")[0]


def _generate(service: Service, call: Call, operation: str) -> tuple[dict[str, Any], bytes]:
    members = Members(call.body)
    key_id = read_key_id(members)
    spec = members.required_enum("KeyPairSpec", KEY_PAIR_SPECS)
    context = members.string_map("EncryptionContext")
    tokens = read_grant_tokens(members)
    dry_run = members.boolean("DryRun")
    if operation == "GenerateDataKeyPair":
        refuse_recipient(members)
    context_bytes = finish(members, call, key_id=key_id, context=context, dry_run=dry_run)
    record = resolve(service, call, operation, key_id, grant_tokens=tokens, context=context)
    require_symmetric(call, record)
    key = service.keyring.open(record, record.current_material_id)
    PrivateKey.require_supported(KeySpec(spec))
    stop_dry_run(dry_run=dry_run)
    pair = PrivateKey.generate(KeySpec(spec))
    private_key = pair.export()
    blob = key.encrypt(private_key, context_bytes, service.random)
    call.audit.ciphertext_blob = blob
    answer = {
        "PrivateKeyCiphertextBlob": base64.b64encode(blob).decode(),
        "PublicKey": base64.b64encode(pair.public_der()).decode(),
        "KeyId": call.audit.key_arn,
        "KeyPairSpec": spec,
        "KeyMaterialId": key.material_id,
    }
    return answer, private_key
