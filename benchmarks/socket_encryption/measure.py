"""How fast is encryption over the sidecar's socket, and what does it cost?

A process serves one data key as the sidecar does; its cipher process does the work. Floors in the same run:
libcrypto on one mebibyte over and over (what `openssl speed` measures), and the same client with a server
that only passes the bytes back. Rounds are interleaved, so that all share the noise of the machine.
"""

import argparse
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT / "operator"), str(ROOT / "tests" / "support")]

from datakeys.sidecar.delivery import Slot  # noqa: E402
from datakeys.sidecar.libcrypto import Gcm, load_library  # noqa: E402
from datakeys.sidecar.locked_memory import Memory  # noqa: E402
from datakeys.sidecar.reactor import Reactor  # noqa: E402
from datakeys.sidecar.socket_server import SocketServer  # noqa: E402
from process_memory import find_children, read_proportional_size  # noqa: E402

STEP = 1 << 20
HEAD = "POST /v1/data-keys/orders/{} HTTP/1.1\r\nContent-Length: {}\r\n\r\n"


def serve_key(folder: str) -> None:
    """Serve one data key until the process is killed."""
    slot = Slot(folder, "orders", named=False)
    os.write(slot.open(), os.urandom(32))
    slot.publish()
    reactor = Reactor()
    server = SocketServer(f"{folder}/key", [slot], reactor)
    while True:
        reactor.step(server.expire(time.monotonic()))


def serve_echo(folder: str) -> None:
    """Pass every body back in pieces of one mebibyte, until the process is killed."""
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{folder}/echo")
    listener.listen()
    place = memoryview(bytearray(STEP))
    while True:
        client, _ = listener.accept()
        with client:
            head = b""
            while b"\r\n\r\n" not in head:
                head += client.recv(1)
            left = int(head.split()[-1])
            while left:
                done = 0
                while done < min(left, STEP):
                    done += client.recv_into(place[done:])
                client.sendall(place[:done])
                left -= done


def ask(path: str, operation: str, body: memoryview) -> bytearray:
    """Send a body and read at the same time; return the raw answer."""
    answer = bytearray(len(body) + len(body) // 4096 + 4096)
    view, size = memoryview(answer), 0
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(path)
        client.sendall(HEAD.format(operation, len(body)).encode())
        sender = threading.Thread(target=client.sendall, args=(body,))
        sender.start()
        while count := client.recv_into(view[size:]):
            size += count
        sender.join()
    view.release()
    del answer[size:]
    return answer


def join_chunks(answer: bytearray) -> bytes:
    """Return the body of a chunked answer."""
    if not answer.startswith(b"HTTP/1.1 200 "):
        raise RuntimeError(bytes(answer[:200]))
    position = answer.index(b"\r\n\r\n") + 4
    parts: list[bytes] = []
    while True:
        end = answer.index(b"\r\n", position)
        size = int(answer[position:end], 16)
        if not size:
            return b"".join(parts)
        parts.append(bytes(answer[end + 2 : end + 2 + size]))
        position = end + 4 + size


def run_floor(gcm: Gcm, memory: Memory, size: int) -> None:
    """Encrypt ``size`` bytes in memory, a mebibyte at a time."""
    for number in range(size // STEP or 1):
        count = min(size, STEP - 16)
        gcm.seal(number.to_bytes(12, "big"), memory.address, count, memory.address + count)


def read_cpu_seconds(pid: int) -> float:
    """Return the CPU time of a process so far, in seconds. Source: proc(5), stat."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def time_it(work: Callable[[], object], repeats: int) -> float:
    """Return the seconds that one call takes."""
    start = time.perf_counter()
    for _ in range(repeats):
        work()
    return (time.perf_counter() - start) / repeats


def main() -> int:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--serve", nargs=2, metavar=("WHAT", "FOLDER"))
    options = parser.parse_args()
    if options.serve:
        {"key": serve_key, "echo": serve_echo}[options.serve[0]](options.serve[1])
    with tempfile.TemporaryDirectory(dir="/dev/shm") as folder:
        servers = {
            what: subprocess.Popen([sys.executable, __file__, "--serve", what, folder])
            for what in ("key", "echo")
        }
        while not all(Path(folder, what).exists() for what in servers):
            time.sleep(0.01)
        try:
            measure(folder, servers["key"].pid, options.rounds)
        finally:
            for server in servers.values():
                server.kill()
                server.wait()
    return 0


def measure(folder: str, pid: int, rounds: int) -> None:
    """Print the time of the first request, the table, and the memory of the cipher process."""
    memory = Memory(STEP)
    gcm = Gcm(load_library(), memory.address, seals=True)
    before = read_proportional_size(pid)
    first = time_it(lambda: ask(f"{folder}/key", "encrypt", memoryview(b"x")), 1)
    second = statistics.median(
        time_it(lambda: ask(f"{folder}/key", "encrypt", memoryview(b"x")), 1) for _ in range(50)
    )
    print(f"first request (starts the process): {first * 1000:.1f} ms, later ones: {second * 1000:.2f} ms")
    for size, repeats in ((1 << 10, 20), (1 << 20, 10), (64 << 20, 1)):
        plaintext = memoryview(os.urandom(size))
        ciphertext = memoryview(join_chunks(ask(f"{folder}/key", "encrypt", plaintext)))
        works: dict[str, Callable[[], object]] = {
            "encrypt": partial(ask, f"{folder}/key", "encrypt", plaintext),
            "decrypt": partial(ask, f"{folder}/key", "decrypt", ciphertext),
            "floor: same client, bytes only": partial(ask, f"{folder}/echo", "x", plaintext),
            "floor: libcrypto in memory": partial(run_floor, gcm, memory, size),
        }
        times: dict[str, list[float]] = {name: [] for name in works}
        for _ in range(rounds):
            for name, work in works.items():
                times[name].append(time_it(work, repeats))
        for name, taken in times.items():
            middle, best = statistics.median(taken), min(taken)
            rate = size / 1e6 / middle
            print(f"| {size:>9} | {name:<30} | {middle * 1e3:8.2f} | {best * 1e3:8.2f} | {rate:7.0f} |")
    [cipher] = find_children(pid)
    start = read_cpu_seconds(cipher)
    for _ in range(rounds):
        ask(f"{folder}/key", "encrypt", plaintext)
    spent = (read_cpu_seconds(cipher) - start) / (rounds * size / 1e9)
    print(f"cipher process: {spent:.2f} s of CPU per GB encrypted in bodies of {size} bytes")
    print(f"cipher process: {read_proportional_size(cipher)} KiB PSS between requests")
    print(f"server: {before} KiB before the first request, {read_proportional_size(pid)} KiB after all")


if __name__ == "__main__":
    sys.exit(main())
