"""What the sidecar does when Decrypt fails: it tries on, says what to do, and the app stays unstarted."""

import json
import ssl
import time
from pathlib import Path

import pytest

from datakeys.contract.encrypted_data_key import EncryptedDataKey
from datakeys.contract.errors import KmsError, all_error_types
from datakeys.sidecar.advice import Failure, advise
from datakeys.sidecar.decrypt import deliver, read_encrypted_data_key
from datakeys.sidecar.keyservice_client import KeyServiceClient
from datakeys.sidecar.retry import FINAL, RETRY, WAIT, decide_delay
from datakeys.sidecar.tls import build_context
from process_memory import find_children

from .conftest import KEY_ARN, FakeKeyService, Pod, make_certificate, wait_until

PLAINTEXT = bytes(range(32))
#: The shortest time until a data key is asked for again after a final error.
FINAL_SECONDS = decide_delay(FINAL, 1, jitter=0.0)
DATA_KEY = EncryptedDataKey(b"blob", KEY_ARN, "0" * 64, {})


@pytest.fixture
def client(pod: Pod) -> KeyServiceClient:
    """Give the child's client, in this process."""
    return KeyServiceClient(
        pod.service.url,
        ca_file=pod.environment["DATAKEYS_KEYSERVICE_CA_FILE"],
        token_file=pod.environment["DATAKEYS_TOKEN_FILE"],
    )


def fail(client: KeyServiceClient) -> Failure:
    """Return the failure of one Decrypt."""
    with pytest.raises(Failure) as caught:
        client.decrypt(DATA_KEY)
    client.close()
    return caught.value


def test_retryable_errors_pass_by_themselves(pod: Pod) -> None:
    """Throttling and a restart of the key service only delay the key; each code is logged once."""
    pod.add_secret("orders", PLAINTEXT)
    pod.service.fail("ThrottlingException", times=2)
    pod.service.fail("KMSInternalException", status=500)
    process = pod.run()
    wait_until((pod.keys / "orders").exists)
    events = [json.loads(line) for line in pod.stop(process).splitlines()]
    assert [event.get("code") for event in events] == [
        None, "ThrottlingException", "KMSInternalException", None, None,
    ]  # fmt: skip
    assert all(event["retry"] == "retry" for event in events[1:3])


def test_denied_pod_stays_without_key_and_is_told_why(pod: Pod) -> None:
    """A final error leaves the probe failing; the log names the code and the next step, not the answer."""
    pod.add_secret("orders", PLAINTEXT)
    pod.service.fail("AccessDeniedException", times=100)
    process = pod.run()
    event = pod.wait_event(process, "decrypt_failed")
    time.sleep(1.0)
    assert pod.probe() == 1
    output = pod.stop(process)
    first, *others = [call["at"] for call in pod.service.calls]
    assert all(one - first >= FINAL_SECONDS for one in others)
    assert (event["code"], event["retry"]) == ("AccessDeniedException", "final")
    assert "serviceAccountName" in event["next"]
    assert "text of the server" not in output


def test_one_denied_key_does_not_hold_up_another(pod: Pod) -> None:
    """Each data key has its own fate; the probe wants them all."""
    pod.add_secret("orders", PLAINTEXT)
    pod.add_secret("invoices", PLAINTEXT)
    pod.service.refuse("orders", "DisabledException")
    process = pod.run(env={"DATAKEYS_REQUESTS": "orders,invoices"})
    wait_until((pod.keys / "invoices").exists)
    assert not (pod.keys / "orders").exists()
    assert pod.probe({"DATAKEYS_REQUESTS": "orders,invoices"}) == 1
    pod.stop(process)


def test_a_secret_of_another_request_is_not_delivered(pod: Pod) -> None:
    """The same pod could decrypt it, but it is not what was asked for: the key service isn't even called."""
    pod.add_secret("orders", PLAINTEXT, request="invoices")
    process = pod.run()
    event = pod.wait_event(process, "decrypt_failed")
    assert pod.probe() == 1
    assert not (pod.keys / "orders").exists()
    pod.stop(process)
    assert not pod.service.calls
    assert (event["code"], event["retry"]) == ("WrongRequest", "final")
    assert "delete it" in event["next"]


def test_a_delivered_name_may_be_bound_to_a_request_of_another_name(pod: Pod) -> None:
    """As the webhook says so, for the data key of an annotated workload and all its versions."""
    names = {"DATAKEYS_REQUESTS": "data-key,data-key@1,orders"}
    bound = {"DATAKEYS_BOUND_REQUESTS": "data-key=orders.deployment"}
    for name in ("data-key", "data-key@1"):
        pod.add_secret(name, PLAINTEXT, request="orders.deployment")
    pod.add_secret("orders", PLAINTEXT)
    process = pod.run(env={**names, **bound})
    wait_until(lambda: pod.probe(names | bound) == 0)
    pod.stop(process)


def test_output_never_holds_secrets(pod: Pod) -> None:
    """Neither plaintext, nor token, nor ciphertext is printed, in good times and in bad."""
    pod.add_secret("orders", b"PLAINTEXT-CANARY-0123456789abcdef")
    pod.service.scripted.append((200, b'{"Plaintext": "UExBSU5URVhU-broken"}'))
    pod.service.scripted.append((200, b"UExBSU5URVhULUNBTkFSWQ no json"))
    process = pod.run(env={"DATAKEYS_LOG_LEVEL": "DEBUG"})
    wait_until((pod.keys / "orders").exists)
    output = pod.stop(process)
    for canary in ("CANARY", "UExBSU5URVhU", "token-of-the-pod", "ciphertext of"):
        assert canary not in output
    assert json.loads(output.splitlines()[1])["code"] == "InvalidResponse"


def test_process_table_never_shows_secrets(pod: Pod) -> None:
    """Neither arguments nor environment of the child hold the token."""
    pod.add_secret("orders", PLAINTEXT)
    with pod.service.holding():
        process = pod.run()
        wait_until(lambda: bool(pod.service.calls))
        (child,) = find_children(process.pid)
        for file in ("cmdline", "environ"):
            assert b"token-of" not in Path(f"/proc/{child}/{file}").read_bytes()
    wait_until((pod.keys / "orders").exists)
    pod.stop(process)


@pytest.mark.parametrize("error", all_error_types(), ids=lambda error: error.__name__)
def test_every_kms_error_has_an_outcome(
    error: type[KmsError], client: KeyServiceClient, key_service: FakeKeyService
) -> None:
    """Each error keeps its code, is retried as the contract says, and comes with a next step."""
    key_service.fail(error.code, status=int(error.http_status))
    failure = fail(client)
    assert failure.code == error.code
    assert failure.retryable == (error.retryable or error.http_status >= 500)
    assert advise(failure.code).isascii()
    assert not set('\t\n"\\') & set(advise(failure.code))


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"Plaintext": 1}',
        b'{"Plaintext": ""}',
        b'{"Plaintext": "*"}',
        b'{"Plaintext": "' + b"AAAA" * 1400 + b'"}',
        b" " * 70000,
        b"[" * 60000,
    ],
)
def test_odd_answers_are_no_key(answer: bytes, client: KeyServiceClient, key_service: FakeKeyService) -> None:
    """An answer that isn't Decrypt's is retried and writes nothing."""
    key_service.scripted.append((200, answer))
    failure = fail(client)
    assert (failure.code, failure.retryable) == ("InvalidResponse", True)


def test_error_page_of_a_proxy_is_retried(client: KeyServiceClient, key_service: FakeKeyService) -> None:
    """A 503 without a KMS error counts as a failure of the service."""
    key_service.scripted += [(503, b"{}"), (502, b"<html>")]
    assert fail(client).retryable
    assert fail(client).retryable


def test_another_authority_is_not_trusted(pod: Pod, tmp_path: Path) -> None:
    """A server whose certificate comes from elsewhere gets no token."""
    make_certificate(tmp_path)
    client = KeyServiceClient(
        pod.service.url, ca_file=str(tmp_path / "ca.crt"), token_file=pod.environment["DATAKEYS_TOKEN_FILE"]
    )
    failure = fail(client)
    assert (failure.code, failure.retryable) == ("CertificateNotTrusted", True)
    assert pod.service.calls == []


def test_unreachable_service_is_retried(pod: Pod) -> None:
    """A closed port is no final error."""
    client = KeyServiceClient(
        "https://127.0.0.1:1",
        ca_file=pod.environment["DATAKEYS_KEYSERVICE_CA_FILE"],
        token_file=pod.environment["DATAKEYS_TOKEN_FILE"],
    )
    failure = fail(client)
    assert (failure.code, failure.retryable) == ("KeyServiceUnreachable", True)


@pytest.mark.parametrize("lost", ["DATAKEYS_KEYSERVICE_CA_FILE", "DATAKEYS_TOKEN_FILE"])
def test_lost_input_is_waited_for(pod: Pod, client: KeyServiceClient, lost: str) -> None:
    """A CA or token that is away for a moment is a matter of time."""
    Path(pod.environment[lost]).unlink()
    failure = fail(client)
    assert (failure.code, failure.retryable) == ("MissingInput", True)


def test_client_trusts_nothing_but_the_bundle_and_speaks_tls_1_3(pod: Pod) -> None:
    """The context holds one authority, checks names and takes no older protocol."""
    context = build_context(pod.environment["DATAKEYS_KEYSERVICE_CA_FILE"])
    assert len(context.get_ca_certs()) == 1
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3


def test_full_volume_is_told_of(pod: Pod, client: KeyServiceClient) -> None:
    """If the plaintext can't be written the next step is about the pod, not about the key service."""
    pod.add_secret("orders", PLAINTEXT)
    with Path("/dev/full").open("wb", buffering=0) as full:
        outcome = deliver(client, str(pod.root / "encrypted" / "orders"), full.fileno(), request="orders")
    client.close()
    assert outcome == (RETRY, "VolumeFull", advise("VolumeFull"))
    assert "fewer data keys" in outcome[2]


def test_changed_secret_is_reported(pod: Pod) -> None:
    """A field that isn't there is waited for; one that is malformed is a final error."""
    pod.add_secret("orders", PLAINTEXT)
    folder = pod.root / "encrypted" / "orders"
    (folder / "encryptionContext").write_bytes(b"[]")
    with pytest.raises(Failure, match="InvalidInput") as caught:
        read_encrypted_data_key(str(folder))
    assert not caught.value.retryable
    (folder / "keyId").unlink()
    with pytest.raises(Failure, match="MissingInput"):
        read_encrypted_data_key(str(folder))


def test_unforeseen_error_says_its_type_only(pod: Pod, client: KeyServiceClient) -> None:
    """The child's edge turns anything into an outcome without a message: a message could quote a body."""
    pod.add_secret("orders", PLAINTEXT)
    outcome = deliver(client, str(pod.root / "encrypted" / "orders"), -1, request="orders")
    assert outcome[:2] == (RETRY, "OSError")
    client.close()


@pytest.mark.parametrize(
    ("outcome", "attempt", "jitter", "seconds"),
    [
        (WAIT, 1, 1.0, 0.1),
        (WAIT, 99, 1.0, 2.0),
        (RETRY, 1, 0.0, 0.125),
        (RETRY, 2, 1.0, 0.5),
        (RETRY, 10_000, 1.0, 10.0),
        (RETRY, 10_000, 0.0, 5.0),
        (FINAL, 1, 1.0, 5.0),
        (FINAL, 3, 1.0, 20.0),
        (FINAL, 4, 1.0, 30.0),
        ("unknown", 1, 1.0, 0.25),
    ],
)
def test_delays_grow_to_their_caps(outcome: str, attempt: int, jitter: float, seconds: float) -> None:
    """Delays double, stay under their cap, and jitter halves them at most."""
    assert decide_delay(outcome, attempt, jitter=jitter) == pytest.approx(seconds)
