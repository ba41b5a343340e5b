"""A real AWS client against the service over plain HTTP on loopback: shapes, errors, retries."""

import asyncio
import os
import threading
import time
from collections.abc import Iterator
from typing import Any

import boto3
import pytest
from botocore.config import Config
from botocore.exceptions import ClientError

from datakeys.keyservice.server.http import HttpLimits, HttpServer
from keyservice_rig import DispatchRig, bound


class Service:
    """A server in a thread of its own."""

    def __init__(self, rig: DispatchRig) -> None:
        self.rig = rig
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = HttpServer(rig.handle, HttpLimits())
        self.port = self._run(self._server.start("127.0.0.1", 0))

    def _run(self, coroutine: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop).result(10)

    def stop(self) -> None:
        """End the server and its loop."""
        self._run(self._server.drain(1))
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def client(self, token: str, account: str = "", *, validate: bool = True) -> Any:
        """Return a KMS client that sends a bearer token instead of a signature."""
        made = boto3.client(
            "kms",
            region_name="cluster-1",
            endpoint_url=f"http://127.0.0.1:{self.port}",
            aws_access_key_id="unused",
            aws_secret_access_key="unused",
            config=Config(retries={"max_attempts": 1}, parameter_validation=validate, proxies={}),
        )

        def authorize(request: Any, **_: Any) -> None:
            del request.headers["Authorization"]
            request.headers["Authorization"] = f"Bearer {token}"
            if account:
                request.headers["X-Datakeys-Account"] = account

        made.meta.events.register("before-send.kms", authorize)
        return made


@pytest.fixture
def service(tmp_path: Any) -> Iterator[Service]:
    """Return a running service."""
    fd = os.open(tmp_path / "audit", os.O_WRONLY | os.O_CREAT)
    rig = DispatchRig(fd)
    rig.rig.clock.now = time.time()
    running = Service(rig)
    yield running
    running.stop()
    rig.close()
    os.close(fd)


@pytest.fixture
def controller(service: Service) -> Any:
    """Return the controller's client for team-a."""
    return service.client(service.rig.issuer.token("datakey-system", "datakeys-controller"), "team-a")


def code_of(call: Any, **members: Any) -> str:
    with pytest.raises(ClientError) as caught:
        call(**members)
    return str(caught.value.response["Error"]["Code"])


def test_life_of_a_key(service: Service, controller: Any) -> None:
    """The client's own parser understands every answer."""
    metadata = controller.create_key(Description="d", Tags=[{"TagKey": "k", "TagValue": "v"}])["KeyMetadata"]
    arn = metadata["Arn"]
    assert metadata["CreationDate"].timestamp() == pytest.approx(time.time(), abs=60)
    made = controller.generate_data_key_without_plaintext(
        KeyId=arn, KeySpec="AES_256", EncryptionContext=bound()
    )
    assert "Plaintext" not in made
    assert len(made["ResponseMetadata"]["RequestId"]) == 36
    pod = service.client(service.rig.issuer.token("team-a", "app", in_pod=True))
    opened = pod.decrypt(CiphertextBlob=made["CiphertextBlob"], EncryptionContext=bound())
    assert len(opened["Plaintext"]) == 32
    assert opened["KeyMaterialId"] == made["KeyMaterialId"] == metadata["CurrentKeyMaterialId"]
    controller.create_alias(AliasName="alias/main", TargetKeyId=arn)
    assert controller.list_aliases()["Aliases"][0]["TargetKeyId"] == metadata["KeyId"]
    grantee = "system:serviceaccount:team-a:app"
    grant = controller.create_grant(KeyId=arn, GranteePrincipal=grantee, Operations=["Encrypt", "Decrypt"])
    sealed = pod.encrypt(KeyId="alias/main", Plaintext=b"text", GrantTokens=[grant["GrantToken"]])
    assert pod.decrypt(CiphertextBlob=sealed["CiphertextBlob"])["Plaintext"] == b"text"
    assert controller.list_grants(KeyId=arn)["Grants"][0]["GrantId"] == grant["GrantId"]
    controller.revoke_grant(KeyId=arn, GrantId=grant["GrantId"])
    controller.disable_key(KeyId=arn)
    scheduled = controller.schedule_key_deletion(KeyId=arn, PendingWindowInDays=7)
    assert (scheduled["DeletionDate"].timestamp() - time.time()) / 86400 == pytest.approx(7, abs=0.1)
    assert controller.cancel_key_deletion(KeyId=arn)["KeyId"] == arn
    assert controller.describe_key(KeyId=arn)["KeyMetadata"]["KeyState"] == "Disabled"


def test_errors_have_their_names(service: Service, controller: Any) -> None:
    """The client raises what the service names, in its own exception classes."""
    arn = controller.create_key()["KeyMetadata"]["Arn"]
    data_key = controller.generate_data_key_without_plaintext
    with pytest.raises(controller.exceptions.NotFoundException):
        controller.describe_key(KeyId="alias/none")
    bad = service.client(
        service.rig.issuer.token("datakey-system", "datakeys-controller"), "team-a", validate=False
    )
    assert (
        code_of(bad.generate_data_key_without_plaintext, KeyId="", NumberOfBytes=0) == "ValidationException"
    )
    assert code_of(data_key, KeyId=arn, KeySpec="AES_256") == "AccessDeniedException"
    dry = {"KeyId": arn, "KeySpec": "AES_256", "EncryptionContext": bound(), "DryRun": True}
    with pytest.raises(controller.exceptions.DryRunOperationException):
        data_key(**dry)
    controller.disable_key(KeyId=arn)
    with pytest.raises(controller.exceptions.DisabledException):
        data_key(**dry)
    assert code_of(service.client("garbage").list_aliases) == "UnrecognizedClientException"
    shared = {"KeyAgreementAlgorithm": "ECDH", "PublicKey": b"k"}
    assert code_of(controller.derive_shared_secret, KeyId=arn, **shared) == "UnknownOperationException"
