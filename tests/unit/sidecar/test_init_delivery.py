"""``datakeys.dev/delivery: init`` and the modes of files."""

import os
import signal
import stat

import pytest

from datakeys.sidecar.settings import read_settings

from .conftest import PATIENCE_SECONDS, Pod, wait_until

PLAINTEXT = bytes(range(32))
INIT = {"DATAKEYS_DELIVERY": "init"}


def test_init_ends_and_leaves_the_keys(pod: Pod) -> None:
    """The container is done when every key is there; the files stay for the app."""
    names = ["orders", "invoices@1"]
    pod.add_secret("orders", PLAINTEXT)
    process = pod.run(env={**INIT, "DATAKEYS_REQUESTS": ",".join(names)})
    wait_until((pod.keys / "orders").exists)
    assert process.poll() is None, "one of two isn't all"
    pod.add_secret("invoices@1", PLAINTEXT[::-1])
    assert process.wait(PATIENCE_SECONDS) == 0
    assert {path.name: path.read_bytes() for path in pod.keys.iterdir()} == {
        "orders": PLAINTEXT,
        "invoices@1": PLAINTEXT[::-1],
    }


def test_init_can_run_again(pod: Pod) -> None:
    """The kubelet may run init containers once more over the same volume, if it makes the sandbox anew."""
    pod.add_secret("orders", PLAINTEXT)
    for _ in range(2):
        assert pod.run(env=INIT).wait(PATIENCE_SECONDS) == 0
        assert (pod.keys / "orders").read_bytes() == PLAINTEXT


def test_init_that_is_stopped_has_not_succeeded(pod: Pod) -> None:
    """Status 0 would start the app without its key; what was delivered so far is removed."""
    pod.add_secret("orders", PLAINTEXT)
    process = pod.run(env={**INIT, "DATAKEYS_REQUESTS": "orders,invoices"})
    wait_until((pod.keys / "orders").exists)
    process.send_signal(signal.SIGTERM)
    assert process.wait(PATIENCE_SECONDS) == 143
    assert list(pod.keys.iterdir()) == []


@pytest.mark.parametrize("mode", ["0400", "0440", "0444"])
def test_file_has_the_asked_mode_and_the_volumes_group(pod: Pod, mode: str) -> None:
    """The volume's root has fsGroup as its group, and hands it on to files."""
    pod.add_secret("orders", PLAINTEXT)
    group = 4242 if os.geteuid() == 0 else os.getegid()
    os.chown(pod.keys, -1, group)
    pod.keys.chmod(0o2770)
    process = pod.run(env={"DATAKEYS_FILE_MODE": mode})
    wait_until((pod.keys / "orders").exists)
    found = (pod.keys / "orders").stat()
    assert stat.S_IMODE(found.st_mode) == int(mode, 8)
    assert found.st_gid == group
    pod.stop(process)
    assert list(pod.keys.iterdir()) == []


@pytest.mark.parametrize(
    ("environment", "named"),
    [
        ({"DATAKEYS_TTL_SECONDS": "0"}, "DATAKEYS_TTL_SECONDS"),
        ({"DATAKEYS_TTL_SECONDS": "-1"}, "DATAKEYS_TTL_SECONDS"),
        ({"DATAKEYS_TTL_SECONDS": "1.5"}, "DATAKEYS_TTL_SECONDS"),
        ({"DATAKEYS_TTL_SECONDS": "2592001"}, "DATAKEYS_TTL_SECONDS"),
        ({"DATAKEYS_READS": "twice"}, "DATAKEYS_READS"),
        ({"DATAKEYS_FILE_MODE": "0600"}, "DATAKEYS_FILE_MODE"),
        ({"DATAKEYS_FILE_MODE": "400"}, "DATAKEYS_FILE_MODE"),
        ({"DATAKEYS_DELIVERY": "init", "DATAKEYS_TTL_SECONDS": "5"}, "DATAKEYS_DELIVERY init"),
        ({"DATAKEYS_DELIVERY": "init", "DATAKEYS_READS": "once"}, "DATAKEYS_DELIVERY init"),
        ({"DATAKEYS_DELIVERY": "init", "DATAKEYS_AWS_ENDPOINT_PORT": "8099"}, "DATAKEYS_DELIVERY init"),
    ],
)
def test_settings_that_make_no_sense_are_refused_by_name(environment: dict[str, str], named: str) -> None:
    """The text begins with the variable, and fits are taken."""
    base = {"DATAKEYS_REQUESTS": "a", "DATAKEYS_KEYSERVICE_URL": "https://k"}
    with pytest.raises(ValueError, match=f"^{named}"):
        read_settings(base | environment)
    assert read_settings(base | {"DATAKEYS_TTL_SECONDS": "2592000"}).ttl_seconds == 2592000
