"""What the startup probe prints: the kubelet shows it in the pod's Events, where people look first."""

from datakeys.sidecar.advice import advise

from .conftest import Pod, wait_until

PLAINTEXT = bytes(range(32))


def probe(pod: Pod, **environment: str) -> tuple[int, str]:
    """Return the probe's exit status and what it prints."""
    process = pod.run("probe", env=environment)
    output = pod.read_output(process)
    return process.returncode, output


def test_a_failed_probe_says_which_key_and_why_and_what_to_do(pod: Pod) -> None:
    """One line per data key that isn't delivered; nothing of the server's text; silent once all are there."""
    pod.add_secret("orders", PLAINTEXT)
    pod.add_secret("invoices", PLAINTEXT)
    requests = {"DATAKEYS_REQUESTS": "orders,invoices"}
    pod.service.fail("AccessDeniedException")
    process = pod.run(env=requests)
    pod.wait_event(process, "decrypt_failed")
    pod.wait_event(process, "delivered")
    status, output = probe(pod, **requests)
    delivered = {path.name for path in pod.keys.iterdir() if not path.name.startswith(".")}
    (denied,) = {"orders", "invoices"} - delivered
    assert (status, output) == (1, f"{denied}: AccessDeniedException: {advise('AccessDeniedException')}\n")
    pod.stop(process)
    assert not list(pod.keys.iterdir())


def test_the_reason_goes_with_the_obstacle(pod: Pod) -> None:
    """Another reason takes its place, and a delivered data key leaves none behind."""
    process = pod.run()
    wait_until(lambda: probe(pod) == (1, f"orders: MissingInput: {advise('MissingInput')}\n"))
    pod.service.fail("ThrottlingException")
    pod.add_secret("orders", PLAINTEXT)
    wait_until((pod.keys / "orders").exists)
    wait_until(lambda: [path.name for path in pod.keys.iterdir()] == ["orders"])
    assert probe(pod) == (0, "")
    pod.stop(process)


def test_a_socket_that_serves_nothing_yet_has_a_reason_too(pod: Pod) -> None:
    """Delivery by socket tells the same; before the sidecar has tried, that nothing is delivered yet."""
    settings = {"DATAKEYS_DELIVERY": "socket"}
    assert probe(pod, **settings) == (1, "not delivered yet, as is usual in the first second\n")
    pod.add_secret("orders", PLAINTEXT)
    pod.service.fail("DisabledException", times=100)
    process = pod.run(env=settings)
    pod.wait_event(process, "decrypt_failed")
    assert probe(pod, **settings) == (1, f"orders: DisabledException: {advise('DisabledException')}\n")
    pod.stop(process)


def test_settings_that_are_wrong_are_named(pod: Pod) -> None:
    """A probe that can't even begin says which variable is wrong."""
    status, output = probe(pod, DATAKEYS_DELIVERY="post")
    assert status == 1
    assert "DATAKEYS_DELIVERY" in output
