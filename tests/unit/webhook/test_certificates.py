"""Loading and reloading the serving certificate, with real certificates and real handshakes."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from datakeys.webhook.certificates import CertificateError, CertificateStore

from .conftest import Authority

Mount = Callable[[Authority, str], Path]


def reload(store: CertificateStore) -> bool:
    """Serve what the files hold; return whether that is news."""
    found = store.look()
    if found is not None:
        store.serve(found)
    return found is not None


def serial_served(store: CertificateStore, trusted: bytes) -> str:
    """Shake hands over a socket; return the serial number the client sees."""
    ours, theirs = socket.socketpair()
    ours.settimeout(60)
    theirs.settimeout(60)

    def serve() -> None:
        with store.context.wrap_socket(theirs, server_side=True) as server:
            server.recv(1)

    thread = threading.Thread(target=serve)
    thread.start()
    client_context = ssl.create_default_context(cadata=trusted.decode())
    with client_context.wrap_socket(ours, server_hostname="localhost") as client:
        certificate = client.getpeercert() or {}
        client.send(b"x")
    thread.join()
    return str(certificate["serialNumber"])


def test_first_load_gives_authority_and_end(authority: Authority, mount: Mount) -> None:
    """The bundle is what caBundle must become; the end is the certificate's."""
    store = CertificateStore(mount(authority, "1"))
    assert store.loaded is None
    assert reload(store)
    assert store.loaded is not None
    assert store.loaded.ca_pem.encode() == authority.pem
    assert store.loaded.expires == pytest.approx(time.time() + 12 * 3600, abs=60)
    assert store.loaded.ca_expires == pytest.approx(time.time() + 24 * 3600, abs=60)


def test_unchanged_files_are_not_loaded_again(authority: Authority, mount: Mount) -> None:
    """A look is three stat calls."""
    store = CertificateStore(mount(authority, "1"))
    assert [reload(store) for _ in range(3)] == [True, False, False]


def test_issuer_is_found_in_the_bundle(authority: Authority, tmp_path: Path) -> None:
    """Of several authorities the one that has signed; the API server must trust that one."""
    stranger = Authority("stranger")
    authority.write(tmp_path, bundle=stranger.pem + authority.pem)
    found = CertificateStore(tmp_path).look()
    assert found is not None
    assert found.issuer_pem.encode() == authority.pem
    assert found.ca_pem.encode() == stranger.pem + authority.pem


def test_files_are_served_only_when_that_is_wanted(authority: Authority, mount: Mount) -> None:
    """A look changes nothing; what has been replaced since the look isn't served."""
    store = CertificateStore(mount(authority, "1"))
    reload(store)
    first = serial_served(store, authority.pem)
    mount(authority, "2")
    second = store.look()
    assert second is not None
    assert store.look() == second
    assert serial_served(store, authority.pem) == first
    mount(authority, "3")
    with pytest.raises(CertificateError, match="being replaced"):
        store.serve(second)
    assert serial_served(store, authority.pem) == first
    assert reload(store)
    assert serial_served(store, authority.pem) != first


def test_swapped_secret_is_served_by_the_same_context(authority: Authority, mount: Mount) -> None:
    """After the kubelet's swap new handshakes see the new certificate; the listener goes on."""
    store = CertificateStore(mount(authority, "1"))
    reload(store)
    context = store.context
    first = serial_served(store, authority.pem)
    mount(authority, "2")
    assert reload(store)
    assert store.context is context
    assert serial_served(store, authority.pem) != first


def test_new_authority_is_followed(authority: Authority, mount: Mount) -> None:
    """A new CA comes with its own bundle."""
    store = CertificateStore(mount(authority, "1"))
    reload(store)
    renewed = Authority("next CA")
    mount(renewed, "2")
    assert reload(store)
    assert store.loaded is not None
    assert store.loaded.ca_pem.encode() == renewed.pem
    serial_served(store, renewed.pem)


def test_plain_folder_is_watched_too(authority: Authority, tmp_path: Path) -> None:
    """Without the kubelet's links, a changed file is enough."""
    authority.write(tmp_path)
    store = CertificateStore(tmp_path)
    assert reload(store)
    authority.write(tmp_path)
    assert reload(store)


@pytest.mark.parametrize("name", ["tls.crt", "tls.key", "ca.crt"])
def test_missing_file_is_waited_for(authority: Authority, tmp_path: Path, name: str) -> None:
    """The Secret may come late, or without a field."""
    authority.write(tmp_path)
    (tmp_path / name).unlink()
    store = CertificateStore(tmp_path)
    with pytest.raises(CertificateError, match="not all are there"):
        reload(store)
    assert store.loaded is None


def break_key(folder: Path, authority: Authority) -> None:
    """Put in a key of another certificate."""
    authority.write(folder / "other")
    shutil.copy(folder / "other" / "tls.key", folder / "tls.key")


def break_authority(folder: Path, _: Authority) -> None:
    """Put in another authority's certificate."""
    (folder / "ca.crt").write_bytes(Authority("stranger").pem)


def break_validity(folder: Path, authority: Authority) -> None:
    """Put in a certificate that has ended."""
    authority.write(folder, hours=-1)


def break_text(folder: Path, _: Authority) -> None:
    """Put in something that is no certificate."""
    (folder / "tls.crt").write_bytes(b"no certificate")


def break_bundle(folder: Path, _: Authority) -> None:
    """Put in a bundle that isn't text."""
    (folder / "ca.crt").write_bytes(b"\xff")


@pytest.mark.parametrize("damage", [break_key, break_authority, break_validity, break_text, break_bundle])
def test_unfit_files_leave_the_old_ones_in_service(
    authority: Authority, tmp_path: Path, damage: Callable[[Path, Authority], None]
) -> None:
    """Half a swap, a wrong CA, an expired certificate: the old one is served on, and repair is noticed."""
    authority.write(tmp_path)
    store = CertificateStore(tmp_path)
    reload(store)
    before = store.loaded
    serial = serial_served(store, authority.pem)
    damage(tmp_path, authority)
    for _ in range(2):
        with pytest.raises(CertificateError):
            reload(store)
    assert store.loaded == before
    assert serial_served(store, authority.pem) == serial
    authority.write(tmp_path)
    assert reload(store)
    assert serial_served(store, authority.pem) != serial


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl command")
def test_certificates_of_openssl_are_loaded(tmp_path: Path) -> None:
    """Files that another tool made, an RSA chain, are fine too."""
    steps = [
        "req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=ca",
        "req -newkey rsa:2048 -nodes -keyout tls.key -out tls.csr -subj /CN=webhook",
        "x509 -req -in tls.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out tls.crt -days 1",
    ]
    for step in steps:
        subprocess.run(["openssl", *step.split()], cwd=tmp_path, check=True, capture_output=True)
    store = CertificateStore(tmp_path)
    assert reload(store)
    assert store.loaded is not None
    assert store.loaded.expires == pytest.approx(time.time() + 86400, abs=600)
