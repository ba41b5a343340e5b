"""Fuzz the KMS protocol: valid, nearly valid and garbage requests at a key service in local mode.

Zone: tools. Requests come from the AWS service model and the table of good requests, with a seed, so that a
finding can be repeated. A finding is a status of 500 or above, an answer that is none of the protocol, an
error of another operation, no answer within the time limit, or a connection that is closed without one.
"""

# ruff: noqa: PLR2004 - chances and HTTP statuses read best in place

import argparse
import base64
import http.client
import json
import random
import re
import socket
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from kms_cases import CASES
from kms_endpoint import LocalKms
from kms_model import allowed_errors, break_request, constraint_cells, input_members, operation_names, to_wire

DEFAULT_COUNT: Final = 100_000
_SECONDS: Final = 30
_SIGNED: Final = {
    "Content-Type": "application/x-amz-json-1.1",
    "X-Amz-Date": "20260101T000000Z",
    "Authorization": (
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20260101/us-east-1/kms/aws4_request, "
        "SignedHeaders=host;x-amz-date, Signature=" + "0" * 64
    ),
}
#: Answers of the HTTP layer, which no operation has a part in.
_HTTP_ERRORS: Final = re.compile(r"^[A-Z][A-Za-z]{3,60}Exception$")


@dataclass
class Report:
    """What came out."""

    seconds: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)
    findings: list[str] = field(default_factory=list)

    @property
    def count(self) -> int:
        """Return the number of requests."""
        return self.answers.total()


class Fuzzer:
    """A source of requests and the judge of their answers."""

    def __init__(self, service: LocalKms, seed: int) -> None:
        self._service = service
        self._random = random.Random(seed)  # noqa: S311 - repeatable on purpose
        self._connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=_SECONDS)
        self._operations = operation_names()
        self._good = self._build_good()
        self.report = Report()

    def _build_good(self) -> dict[str, list[dict[str, Any]]]:
        client = self._service.client()
        good: dict[str, list[dict[str, Any]]] = {}
        for operation, cases in CASES.items():
            for case in cases[:6]:
                members = case.build(lambda name, **given: client._make_api_call(name, given))  # noqa: SLF001
                good.setdefault(operation, []).append(to_wire(operation, members))
        client.close()
        return good

    def run(self, count: int, progress: Callable[[int], None] = lambda _: None) -> Report:
        """Send requests and judge their answers."""
        started = time.monotonic()
        kinds = (self._send_good, self._send_broken, self._send_mutated, self._send_odd, self._send_bytes)
        weights = (10, 30, 40, 14, 6)
        for number in range(count):
            self._random.choices(kinds, weights)[0]()
            if number % 5000 == 0:
                progress(number)
        self.report.seconds = time.monotonic() - started
        self._connection.close()
        return self.report

    # --- requests ---------------------------------------------------------------------------------------

    def _pick(self) -> tuple[str, dict[str, Any]]:
        operation = self._random.choice(list(self._good))
        return operation, self._random.choice(self._good[operation])

    def _send_good(self) -> None:
        operation, body = self._pick()
        self._post(operation, json.dumps(body).encode())

    def _send_broken(self) -> None:
        operation, body = self._pick()
        cells = constraint_cells(operation)
        if cells:
            body = break_request(body, self._random.choice(cells))
        self._post(operation, json.dumps(body).encode())

    def _send_mutated(self) -> None:
        operation, body = self._pick()
        changed = json.loads(json.dumps(body))
        for _ in range(self._random.randint(1, 3)):
            self._mutate(operation, changed)
        raw = json.dumps(changed, ensure_ascii=self._random.random() < 0.5).encode("utf-8", "surrogatepass")
        if self._random.random() < 0.1:
            raw = self._flip(raw)
        target = operation if self._random.random() < 0.9 else self._random.choice(self._operations)
        self._post(target, raw)

    def _mutate(self, operation: str, body: dict[str, Any]) -> None:
        names = list(input_members(operation)) or ["KeyId"]
        name = self._random.choice(names)
        match self._random.randrange(5):
            case 0:
                body.pop(name, None)
            case 1:
                body[name] = self._value()
            case 2:
                other = self._pick()[1]
                body |= {key: value for key, value in other.items() if self._random.random() < 0.3}
            case 3:
                value = body.get(name)
                body[name] = self._change(value) if isinstance(value, str) else self._value()
            case _:
                body[self._random.choice(["", "Extra", "__proto__", name.lower()])] = self._value()

    def _change(self, text: str) -> str:
        """Change a text, or the bytes that it is the base64 of."""
        if self._random.random() < 0.5 and len(text) > 40:
            try:
                return base64.b64encode(self._flip(base64.b64decode(text, validate=True))).decode()
            except ValueError:
                pass
        position = self._random.randrange(len(text) + 1)
        return text[:position] + self._text() + text[position + self._random.randrange(3) :]

    def _flip(self, raw: bytes) -> bytes:
        changed = bytearray(raw)
        for _ in range(self._random.randint(1, 3)):
            if changed:
                changed[self._random.randrange(len(changed))] ^= 1 << self._random.randrange(8)
        return bytes(changed)

    def _text(self) -> str:
        return self._random.choice(
            ["", "x", "\u2603", "\x00", "\ud800", "alias/", "arn:", ":", "/", " ", "%s", "\n", "A" * 300]
        )

    def _value(self, depth: int = 0) -> Any:  # noqa: ANN401 - JSON
        simple: list[Any] = [
            None,
            True,
            0,
            -1,
            10**30,
            1e308,
            0.5,
            self._text(),
            "AES_256",
            "eA==",
            "ROTATIONS",
        ]
        if depth > 2 or self._random.random() < 0.6:
            return self._random.choice(simple)
        if self._random.random() < 0.5:
            return [self._value(depth + 1) for _ in range(self._random.randrange(4))]
        return {self._text(): self._value(depth + 1) for _ in range(self._random.randrange(4))}

    def _send_odd(self) -> None:
        """Send a good body with odd headers, methods or targets."""
        operation, body = self._pick()
        headers = dict(_SIGNED) | {"X-Amz-Target": f"TrentService.{operation}"}
        name = self._random.choice(
            [*headers, "X-Amz-Security-Token", "X-Datakeys-Account", "Expect", "Cookie"]
        )
        odd = ["", "x", "\xff" * 20, "AWS4-HMAC-SHA256", "Bearer x", "A" * 3000, "TrentService.", "a,b;c=d"]
        if self._random.random() < 0.3:
            headers.pop(name, None)
        else:
            headers[name] = self._random.choice(odd)
        method = self._random.choice(["POST"] * 6 + ["GET", "PUT", "DELETE", "PATCH"])
        path = self._random.choice(["/"] * 6 + ["/x", "/?a=b", "//", "/%00"])
        self._send(method, path, json.dumps(body).encode(), headers, "")

    def _send_bytes(self) -> None:
        """Send bytes that are nearly a request on a connection of their own; each must be answered."""
        operation, body = self._pick()
        raw = json.dumps(body).encode()
        lines = [f"X-Amz-Target: TrentService.{operation}", f"Content-Length: {len(raw)}"]
        lines += [f"{name}: {value}" for name, value in _SIGNED.items()]
        head = bytearray(("POST / HTTP/1.1\r\nHost: x\r\n" + "\r\n".join(lines)).encode())
        for _ in range(self._random.randint(1, 4)):
            head[self._random.randrange(len(head))] = self._random.randrange(256)
        try:
            with socket.create_connection(("127.0.0.1", self._service.port), _SECONDS) as connection:
                connection.sendall(bytes(head) + b"\r\n\r\n" + raw)
                connection.shutdown(socket.SHUT_WR)
                answer = connection.recv(65536)
        except OSError as error:
            self._found(f"bytes: {type(error).__name__} after {bytes(head)!r}")
            return
        self.report.answers["bytes"] += 1
        status = re.match(rb"HTTP/1\.[01] (\d{3}) ", answer)
        if status is None and not _lacks_body(bytes(head), len(raw)):
            self._found(f"bytes: no answer to {bytes(head)!r}")
        elif status is not None and int(status[1]) >= 500 and int(status[1]) not in (501, 505):
            self._found(f"bytes: {status[1]!r} to {bytes(head)!r}")

    # --- answers ----------------------------------------------------------------------------------------

    def _post(self, operation: str, raw: bytes) -> None:
        headers = {**_SIGNED, "X-Amz-Target": f"TrentService.{operation}"}
        self._send("POST", "/", raw, headers, operation)

    def _send(self, method: str, path: str, raw: bytes, headers: dict[str, str], operation: str) -> None:
        shown = f"{method} {path} {headers.get('X-Amz-Target')} {raw[:2000]!r}"
        try:
            self._connection.request(method, path, raw, headers)
            response = self._connection.getresponse()
            content = response.read()
        except (OSError, http.client.HTTPException) as error:
            self._connection.close()
            self.report.answers["none"] += 1
            self._found(f"{type(error).__name__}: {shown} {headers}")
            return
        self._judge(response.status, content, operation, shown)

    def _judge(self, status: int, content: bytes, operation: str, shown: str) -> None:
        try:
            body = json.loads(content) if content else {}
        except ValueError:
            body = None
        code = str(body.get("__type", "")) if isinstance(body, dict) else ""
        self.report.answers[code or str(status)] += 1
        if status >= 500:
            self._found(f"{status} {code}: {shown}")
        elif operation and (body is None or (status == 200) == bool(code)):
            self._found(f"{status} without its form {content[:200]!r}: {shown}")
        elif operation and code and status == 400 and code not in allowed_errors(operation):
            self._found(f"{code} isn't an error of {operation}: {shown}")
        elif code and not _HTTP_ERRORS.match(code):
            self._found(f"strange code {code}: {shown}")

    def _found(self, text: str) -> None:
        self.report.findings.append(text)


def _lacks_body(head: bytes, length: int) -> bool:
    """Return whether a request announces more than it sends: nobody can answer what isn't whole."""
    announced = re.search(rb"(?im)^content-length:[ \t]*(\d+)[ \t]*\r?$", head)
    return announced is not None and int(announced[1]) > length


def fuzz(count: int, seed: int, progress: Callable[[int], None] = lambda _: None) -> Report:
    """Run the fuzzer against a process of its own."""
    with LocalKms() as service:
        report = Fuzzer(service, seed).run(count, progress)
        if service.process.poll() is not None:
            report.findings.append("the process ended")
        return report


def main() -> int:
    """Run the fuzzer; exit with 1 if there are findings."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=DEFAULT_COUNT)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--json", action="store_true", help="print the result for hack/generate_conformance.py"
    )
    given = parser.parse_args()
    report = fuzz(given.count, given.seed, lambda number: print(number, file=sys.stderr))
    rate = report.count / report.seconds
    if given.json:
        result = {"requests": report.count, "seed": given.seed, "perSecond": round(rate)}
        print(json.dumps({**result, "findings": len(report.findings)}, indent=2))
    else:
        print(f"{report.count} requests in {report.seconds:.0f} s ({rate:.0f}/s), seed {given.seed}")
        print(*(f"{number:8} {code}" for code, number in report.answers.most_common()), sep="\n")
    print(*report.findings[:50], sep="\n", file=sys.stderr)
    return 1 if report.findings else 0


if __name__ == "__main__":
    sys.exit(main())
