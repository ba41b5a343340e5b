"""The three requests of the hot path, made once; the load generator sends each of them over and over."""

import json

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from servers import ACCESS_KEY, REGION, SECRET_KEY

TARGET_PREFIX = "TrentService."
OPERATIONS = ("GenerateDataKeyWithoutPlaintext", "Decrypt", "Encrypt")
CONTENT_TYPE = "application/x-amz-json-1.1"
CONTEXT = {"purpose": "benchmark", "tenant": "blue"}


def build_bodies(client):
    """Make a key and a ciphertext; return the body of each operation."""
    key_id = client.create_key()["KeyMetadata"]["KeyId"]
    import base64  # noqa: PLC0415 - boto3 decodes what the wire has in base64

    blob = client.generate_data_key_without_plaintext(
        KeyId=key_id, KeySpec="AES_256", EncryptionContext=CONTEXT
    )
    ciphertext = base64.b64encode(blob["CiphertextBlob"]).decode()
    return {
        "GenerateDataKeyWithoutPlaintext": {
            "KeyId": key_id,
            "KeySpec": "AES_256",
            "EncryptionContext": CONTEXT,
        },
        "Decrypt": {"CiphertextBlob": ciphertext, "EncryptionContext": CONTEXT, "KeyId": key_id},
        "Encrypt": {
            "KeyId": key_id,
            "Plaintext": base64.b64encode(bytes(32)).decode(),
            "EncryptionContext": CONTEXT,
        },
    }


def build_requests(server):
    """Return headers and body of each operation, as the server's clients send them."""
    if server.candidate.startswith("own-token"):
        sent = json.loads((server.folder / "requests.json").read_text())
        return {
            operation: (
                {**headers, "Content-Type": CONTENT_TYPE, "X-Amz-Target": TARGET_PREFIX + operation},
                json.dumps(body),
            )
            for operation, (headers, body) in sent.items()
        }
    constant = server.candidate.startswith("constant")
    bodies = build_constant_bodies() if constant else build_bodies(server.client())
    return {operation: sign(server.url, operation, body) for operation, body in bodies.items()}


def build_constant_bodies():
    """Return bodies of the usual size for the server that doesn't look at them."""
    key_id = "0" * 36
    return {
        name: {"KeyId": key_id, "KeySpec": "AES_256", "EncryptionContext": CONTEXT} for name in OPERATIONS
    }


def sign(url, operation, body):
    """Return headers and body of a request as an AWS SDK sends it."""
    data = json.dumps(body)
    headers = {"Content-Type": CONTENT_TYPE, "X-Amz-Target": TARGET_PREFIX + operation}
    request = AWSRequest("POST", url + "/", data=data, headers=headers)
    SigV4Auth(Credentials(ACCESS_KEY, SECRET_KEY), "kms", REGION).add_auth(request)
    return dict(request.headers), data


def write_wrk_script(path, headers, data, *, numbered=False):
    """Write what wrk sends: one request over and over, or with a number in each one's head."""
    lines = ['wrk.method = "POST"', f"wrk.body = {json.dumps(data)}"]
    lines += [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
    if numbered:
        lines += [
            "local number = 0",
            "request = function()",
            "  number = number + 1",
            '  wrk.headers["X-Number"] = number',
            "  return wrk.format()",
            "end",
        ]
    # A refusal would be fast and worth nothing.
    lines += [
        "response = function(status, headers, body)",
        "  if status ~= 200 then wrk.thread:stop() end",
        "end",
    ]
    path.write_text("\n".join(lines) + "\n")
