"""What keeps the data key out of dumps, other processes and the library's buffers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from process_memory import find_children, find_in_memory

from .conftest import PROGRAM, Pod, find_python, wait_until

PLAINTEXT = os.urandom(32)
UID = 123456

#: Receives one answer into a buffer of its own, wipes that, and tells.
#: Arguments: folder of the package, port, CA file, options to drop.
_RECEIVE = """
import socket, ssl, sys
sys.path.insert(0, sys.argv[1])
from datakeys.sidecar.tls import build_context
context = build_context(sys.argv[3])
context.options &= ~int(sys.argv[4])
plain = socket.create_connection(("127.0.0.1", int(sys.argv[2])))
connection = context.wrap_socket(plain, server_hostname="127.0.0.1")
connection.sendall(b"POST / HTTP/1.1\\r\\nContent-Length: 2\\r\\n\\r\\n{}")
buffer, received = bytearray(65536), 0
while b"}" not in buffer:
    received += connection.recv_into(memoryview(buffer)[received:])
buffer[:] = bytes(len(buffer))
print("received", flush=True)
sys.stdin.read()
"""


def _read_core_limit(pid: int) -> list[str]:
    lines = Path(f"/proc/{pid}/limits").read_text().splitlines()
    [line] = [line for line in lines if line.startswith("Max core file size")]
    return line.split()[4:6]


def test_only_the_child_that_sees_the_key_is_closed_to_its_own_user(pod: Pod) -> None:
    """The kernel gives a process that can't be dumped or traced to root, whoever it runs as."""
    python = find_python(UID)
    pod.add_secret("orders", PLAINTEXT)
    os.chown(pod.keys, UID, UID)
    with pod.service.holding():
        process = pod.run(uid=UID, python=python)
        wait_until(lambda: bool(pod.service.calls))
        [child] = find_children(process.pid)
        assert Path(f"/proc/{child}/environ").stat().st_uid == 0
        assert Path(f"/proc/{process.pid}/environ").stat().st_uid == UID
        # Not 0, which counts for nothing where dumps are piped to a program.
        assert _read_core_limit(child) == _read_core_limit(process.pid) == ["1", "1"]
    pod.stop(process)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads other processes' memory")
def test_resident_process_never_holds_the_key(pod: Pod) -> None:
    """While the file is delivered, the key is in no page of the process that keeps it."""
    pod.add_secret("orders", PLAINTEXT)
    process = pod.run()
    wait_until((pod.keys / "orders").exists)
    assert find_in_memory(process.pid, PLAINTEXT) == []
    assert find_in_memory(process.pid, b"DATAKEYS_REQUESTS=orders")
    with subprocess.Popen(
        [
            sys.executable,
            "-ISc",
            f"k = open({str(pod.keys / 'orders')!r}, 'rb').read(); print(flush=True); input()",
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as app:
        assert app.stdout
        app.stdout.readline()
        assert find_in_memory(app.pid, PLAINTEXT), "an app that has read it does hold it"
        app.kill()
    pod.stop(process)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads other processes' memory")
def test_tls_library_keeps_no_copy_of_an_answer(pod: Pod) -> None:
    """OpenSSL overwrites its buffer; without the option the answer stays in its heap until the next one."""
    answer = os.urandom(200).hex()
    held = {}
    for dropped in (0, 1 << 1):
        pod.service.scripted.append((200, f'{{"Plaintext": "{answer}"}}'.encode()))
        port, ca_file = pod.service.url.rpartition(":")[2], pod.environment["DATAKEYS_KEYSERVICE_CA_FILE"]
        arguments = [str(PROGRAM.parents[2]), port, ca_file, str(dropped)]
        with subprocess.Popen(
            [sys.executable, "-ISc", _RECEIVE, *arguments], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as client:
            assert client.stdout
            assert client.stdout.readline() == b"received\n"
            held[dropped] = find_in_memory(client.pid, answer[200:264].encode())
            client.kill()
    assert "[heap]" in held[1 << 1]
    assert "[heap]" not in held[0]
