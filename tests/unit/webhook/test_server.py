"""The whole process on loopback: readiness, TLS, metrics, renewal, draining; and the settings."""

import asyncio
import base64
import os
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from aiohttp import ClientSession
from cryptography import x509
from cryptography.x509.oid import NameOID

from datakeys.contract.environment import Address
from datakeys.webhook import certificate_care
from datakeys.webhook.ca_bundle import find_certificates
from datakeys.webhook.listener import Listener
from datakeys.webhook.patches import SidecarKind
from datakeys.webhook.request_lookup import KubernetesRequestLookup
from datakeys.webhook.server import Webhook
from datakeys.webhook.settings import Settings, read_settings
from ports import find_free_port

from .conftest import SETTINGS, Authority
from .test_admission import FakeApi
from .test_ca_bundle import FakeConfiguration, encode
from .test_review import build_review

Mount = Callable[[Authority, str], Path]
OPERATOR = Path(__file__).parents[3] / "operator"
#: For what comes by itself, on the slowest machine.
PATIENCE_SECONDS = 60.0
REQUIRED = {
    "DATAKEYS_SIDECAR_IMAGE": "image",
    "DATAKEYS_KEYSERVICE_URL": "https://k",
    "DATAKEYS_CLUSTER_NAME": "c",
}


class Running:
    """A running webhook and a client of it."""

    def __init__(self, folder: Path, session: ClientSession, *, manages_ca_bundle: bool = True) -> None:
        self.configuration = FakeConfiguration("")
        self.settings = Settings(
            listen=Address("127.0.0.1", find_free_port()),
            health_listen=Address("127.0.0.1", find_free_port()),
            tls_directory=folder,
            manages_ca_bundle=manages_ca_bundle,
            sidecar=SETTINGS,
            log_level="INFO",
        )
        lookup = KubernetesRequestLookup(FakeApi().get)
        self.webhook = Webhook(self.settings, lookup, self.configuration, drain_seconds=0.5)
        self.session = session
        self.task: asyncio.Task[None] | None = None

    async def get(self, path: str) -> tuple[int, str]:
        """Ask for health or metrics."""
        url = f"http://127.0.0.1:{self.settings.health_listen.port}{path}"
        async with self.session.get(url) as answer:
            return answer.status, await answer.text()

    async def review(self, trusted: bytes) -> dict[str, Any]:
        """Post a review over TLS."""
        context = ssl.create_default_context(cadata=trusted.decode())
        url = f"https://localhost:{self.settings.listen.port}/mutate-pods"
        async with self.session.post(url, json=build_review(), ssl=context) as answer:
            response: dict[str, Any] = (await answer.json())["response"]
            return response

    async def fetch_issuer(self) -> str:
        """Return the name of the CA that has signed the served certificate."""
        address = ("127.0.0.1", self.settings.listen.port)
        pem = await asyncio.to_thread(ssl.get_server_certificate, address)
        names = x509.load_pem_x509_certificate(pem.encode()).issuer
        return str(names.get_attributes_for_oid(NameOID.COMMON_NAME)[0].value)

    async def wait_issuer(self, name: str) -> None:
        """Wait until a certificate of a CA is served."""
        end = time.monotonic() + PATIENCE_SECONDS
        while await self.fetch_issuer() != name:
            assert time.monotonic() < end, name
            await asyncio.sleep(0.05)

    async def wait_ready(self, status: int = 200, body: str = "") -> None:
        """Wait until /readyz gives a status, and a body if one is asked for."""
        end = time.monotonic() + PATIENCE_SECONDS
        answer: object = None
        while time.monotonic() < end:
            (answer,) = await asyncio.gather(self.get("/readyz"), return_exceptions=True)
            if isinstance(answer, tuple) and answer[0] == status and body in answer[1]:
                return
            await asyncio.sleep(0.02)
        raise TimeoutError(answer)


@pytest.fixture
async def running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> AsyncIterator[Running]:
    """Start a webhook whose certificate isn't mounted yet; the parameter: whether it sets caBundle."""
    monkeypatch.setattr(certificate_care, "CERTIFICATE_SECONDS", 0.05)
    monkeypatch.setattr(certificate_care, "FIRST_RETRY_SECONDS", 0.05)
    monkeypatch.setattr(certificate_care, "SETTLE_SECONDS", 0.5)
    async with ClientSession() as session:
        made = Running(tmp_path / "tls", session, manages_ca_bundle=getattr(request, "param", True))
        made.task = asyncio.create_task(made.webhook.run())
        # From then on SIGTERM ends the webhook, not the tests.
        await made.wait_ready(503)
        yield made
        if not made.task.done():
            os.kill(os.getpid(), signal.SIGTERM)
        await made.task


async def test_ready_only_once_reviews_are_listened_for(
    running: Running, authority: Authority, mount: Mount, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With everything else there, a review sent a moment too early would be refused by the kernel."""
    opening, listen = asyncio.Event(), running.webhook._listen

    async def listen_late(*arguments: Any) -> Listener:
        await opening.wait()
        return await listen(*arguments)

    monkeypatch.setattr(running.webhook, "_listen", listen_late)
    mount(authority, "1")
    await running.wait_ready(503, "not listening yet\n")
    opening.set()
    await running.wait_ready()
    assert (await running.review(authority.pem))["allowed"]


async def test_ready_only_with_certificate_and_bundle(
    running: Running, authority: Authority, mount: Mount
) -> None:
    """Alive from the start; ready when reviews can be answered and the API server trusts the answer."""
    assert (await running.get("/healthz"))[0] == 200
    assert (await running.get("/readyz"))[1] == "no serving certificate yet\n"
    running.configuration.error = ConnectionError()
    mount(authority, "1")
    await running.wait_ready(503, "caBundle isn't set yet\n")
    await asyncio.sleep(0.3)
    assert (await running.get("/readyz"))[1] == "caBundle isn't set yet\n"
    running.configuration.error = None
    await running.wait_ready()
    assert running.configuration.bundles == [encode(authority.pem.decode())]
    assert (await running.review(authority.pem))["allowed"]


async def test_renewal_goes_on_without_a_restart(
    running: Running, authority: Authority, mount: Mount
) -> None:
    """A new certificate of a new CA is served only after the API server was told to trust it; none fails."""
    mount(authority, "1")
    await running.wait_ready()
    renewed = Authority("next CA")
    mount(renewed, "2")
    served = ""
    end = time.monotonic() + PATIENCE_SECONDS
    while served != "next CA" and time.monotonic() < end:
        bundle = base64.b64decode(running.configuration.bundles[0])
        assert (await running.review(bundle))["allowed"]
        served = await running.fetch_issuer()
        await asyncio.sleep(0.02)
    assert served == "next CA"
    assert (await running.review(renewed.pem))["allowed"]
    assert set(find_certificates(base64.b64decode(running.configuration.bundles[0]).decode())) == set(
        find_certificates((authority.pem + renewed.pem).decode())
    )
    await running.wait_ready()


async def test_certificate_waits_while_the_bundle_cannot_be_set(
    running: Running, authority: Authority, mount: Mount
) -> None:
    """The API server would refuse it: the old one is served as long as it is valid."""
    mount(authority, "1")
    await running.wait_ready()
    running.configuration.error = ConnectionError()
    mount(Authority("next CA"), "2")
    await asyncio.sleep(1.5)
    assert await running.fetch_issuer() == "webhook CA"
    running.configuration.error = None
    await running.wait_issuer("next CA")


async def test_expired_certificate_waits_for_nothing(
    running: Running, authority: Authority, mount: Mount
) -> None:
    """Nothing is lost by serving another one then."""
    folder = mount(authority, "1")
    await running.wait_ready()
    loaded = running.webhook._certificates.loaded
    assert loaded is not None
    assert folder.exists()
    running.webhook._certificates.loaded = replace(loaded, expires=time.time() - 1)
    running.configuration.error = ConnectionError()
    mount(Authority("next CA"), "2")
    await running.wait_issuer("next CA")


@pytest.mark.parametrize("running", [False], indirect=True, ids=["cert-manager"])
async def test_ca_bundle_of_cert_manager_is_waited_for(
    running: Running, authority: Authority, mount: Mount
) -> None:
    """A Secret with tls.crt, tls.key and ca.crt, whoever made it; only reads of the configuration."""
    mount(authority, "1")
    await running.wait_ready(503, "caBundle isn't set yet\n")
    running.configuration.bundles = [encode(authority.pem.decode())]
    await running.wait_ready()
    renewed = Authority("next CA")
    mount(renewed, "2")
    await asyncio.sleep(1)
    assert await running.fetch_issuer() == "webhook CA"
    running.configuration.bundles = [encode((authority.pem + renewed.pem).decode())]
    await running.wait_issuer("next CA")
    assert running.configuration.patches == []


async def test_broken_renewal_keeps_serving(running: Running, authority: Authority, mount: Mount) -> None:
    """An unfit Secret is refused and the old certificate stays."""
    folder = mount(authority, "1")
    await running.wait_ready()
    (folder / "..data" / "tls.key").write_text("broken")
    await asyncio.sleep(0.2)
    assert (await running.review(authority.pem))["allowed"]
    assert (await running.get("/readyz"))[0] == 200


async def test_metrics_show_admissions_and_expiry(
    running: Running, authority: Authority, mount: Mount
) -> None:
    """Results, latency and the certificate's end."""
    mount(authority, "1")
    await running.wait_ready()
    await running.review(authority.pem)
    status, text = await running.get("/metrics")
    assert status == 200
    assert 'datakeys_webhook_admissions_total{result="injected"} 1.0' in text
    assert "datakeys_webhook_admission_seconds_bucket" in text
    (line,) = [one for one in text.splitlines() if one.startswith("datakeys_webhook_certificate_expiry")]
    assert float(line.split()[1]) == pytest.approx(time.time() + 12 * 3600, abs=60)
    (line,) = [one for one in text.splitlines() if one.startswith("datakeys_webhook_ca_expiry")]
    assert float(line.split()[1]) == pytest.approx(time.time() + 24 * 3600, abs=60)


async def test_sigterm_drains(running: Running, authority: Authority, mount: Mount) -> None:
    """Unready at once, but reviews are answered until the drain is over; then the process ends."""
    # Long enough to ask twice.
    running.webhook._drain_seconds = 4.0
    mount(authority, "1")
    await running.wait_ready()
    os.kill(os.getpid(), signal.SIGTERM)
    await running.wait_ready(503, "stopping\n")
    assert (await running.review(authority.pem))["allowed"]
    assert running.task is not None
    await asyncio.wait_for(running.task, PATIENCE_SECONDS)


def test_settings_are_read_once_with_defaults() -> None:
    """The two that have no default, and the rest."""
    settings = read_settings(REQUIRED)
    assert settings.listen == Address("0.0.0.0", 8443)  # noqa: S104 - the documented default
    assert settings.health_listen == Address("0.0.0.0", 9443)  # noqa: S104
    assert settings.sidecar.image_pull_policy == "IfNotPresent"
    assert settings.sidecar.kind is SidecarKind.NATIVE
    ordinary = read_settings({**REQUIRED, "DATAKEYS_SIDECAR_KIND": "ordinary"}).sidecar.kind
    assert ordinary is SidecarKind.ORDINARY
    assert settings.manages_ca_bundle
    assert settings.tls_directory == Path("/var/run/datakeys/tls")
    assert read_settings({**REQUIRED, "DATAKEYS_LISTEN": "[::]:1"}).listen == Address("::", 1)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DATAKEYS_SIDECAR_IMAGE", ""),
        ("DATAKEYS_KEYSERVICE_URL", ""),
        ("DATAKEYS_CLUSTER_NAME", ""),
        ("DATAKEYS_SIDECAR_IMAGE_PULL_POLICY", "Sometimes"),
        ("DATAKEYS_SIDECAR_KIND", "auto"),
        ("DATAKEYS_MANAGE_CA_BUNDLE", "perhaps"),
        ("DATAKEYS_LISTEN", "8443"),
        ("DATAKEYS_HEALTH_LISTEN", "host:https"),
    ],
)
def test_unfit_setting_is_named(name: str, value: str) -> None:
    """The message names the variable."""
    with pytest.raises(ValueError, match=name):
        read_settings({**REQUIRED, name: value})


def test_process_without_settings_ends_with_a_reason() -> None:
    """``python -m datakeys.webhook`` refuses to start half-configured."""
    environment = {"PYTHONPATH": str(OPERATOR), "PATH": os.environ["PATH"]}
    done = subprocess.run(
        [sys.executable, "-m", "datakeys.webhook"],
        env=environment,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 1
    assert b"DATAKEYS_SIDECAR_IMAGE must be set" in done.stdout
