"""The edge to the cluster: every call is a call of kubectl.

Zone: the user's own rights. kubectl brings the context, the credentials and the proxies exactly as the user
has them, credential plugins included, and leaves the plugin without a dependency. Of Secrets only the table
is asked for, which the API server makes: names, types and labels, never data.
"""

import json
import re
import subprocess
from collections.abc import Callable, Hashable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeVar

from datakeys.contract.identity import GROUP, LABEL_REQUEST, VERSION
from datakeys.kubectl.answers import (
    REASON_BAD_REQUEST,
    REASON_FORBIDDEN,
    REASON_NOT_FOUND,
    REASON_UNAUTHORIZED,
    REASON_UNREACHABLE,
    Answer,
    ClusterError,
    Gap,
    Items,
    Json,
    UserError,
    build_gap,
)
from datakeys.kubectl.paths import DATAKEYS, build_path

_PARALLEL: Final = 6
_PAGE: Final = 500
#: kubectl's own time limit is none; a command for people must end.
_REQUEST_TIMEOUT: Final = "20s"
_SERVER_ERROR: Final = re.compile(
    r"Error from server \((?P<reason>\w+)\): (?P<message>.*?)(?=\nError from|\Z)", re.DOTALL
)
_SECRET_COLUMNS: Final = 4
#: Errors that answer the question "what is there?".
_ANSWERS: Final = frozenset({REASON_BAD_REQUEST, REASON_FORBIDDEN, REASON_NOT_FOUND})

Key = TypeVar("Key", bound=Hashable)
Value = TypeVar("Value")


@dataclass(frozen=True, slots=True)
class SecretRow:
    """What a table says about a Secret: no data. ``request`` is empty if the label isn't there."""

    name: str
    type: str
    request: str


@dataclass(frozen=True, slots=True)
class Cluster:
    """The cluster as a kubectl with these flags sees it."""

    program: str
    flags: tuple[str, ...] = ()

    def get(self, path: str) -> Json:
        """Return what the API server answers at a path.

        Raises:
            ClusterError: The call failed.
        """
        answer = json.loads(self._run("get", "--raw", path))
        if not isinstance(answer, dict):
            raise ClusterError(REASON_UNREACHABLE, f"the answer at {path} isn't an object")
        return answer

    def look(self, path: str) -> Answer:
        """Return one object, or why it can't be seen.

        Raises:
            ClusterError: There is no answer.
        """
        return _or_gap(lambda: self.get(path))

    def items(self, path: str) -> Items:
        """Return all items of a collection, page by page, or why they can't be seen.

        Raises:
            ClusterError: There is no answer.
        """
        return _or_gap(lambda: list(self._pages(path)))

    def collections(self, namespace: str | None, *plurals: str) -> dict[str, Items]:
        """Return collections of the project by their plurals, fetched side by side; None: all namespaces.

        Raises:
            ClusterError: There is no answer.
        """
        calls = {one: partial(self.items, build_path(DATAKEYS, one, namespace)) for one in plurals}
        return fetch_all(calls)

    def text(self, path: str) -> str | Gap:
        """Return a text, such as a container's log, or why it can't be seen.

        Raises:
            ClusterError: There is no answer.
        """
        return _or_gap(lambda: self._run("get", "--raw", path))

    def secrets(self, namespace: str | None, *names: str) -> list[SecretRow] | Gap:
        """Return the rows of Secrets: of these names, or of all that hold a request's data key.

        Raises:
            ClusterError: There is no answer.
        """
        where = ("--all-namespaces",) if namespace is None else ("--namespace", namespace)
        which = names or (f"--selector={LABEL_REQUEST}",)
        columns = ("--no-headers", "--ignore-not-found", f"--label-columns={LABEL_REQUEST}")
        return _or_gap(
            lambda: parse_secret_table(
                self._run("get", "secrets", *where, *which, *columns), with_namespace=namespace is None
            )
        )

    def patch(self, plural: str, namespace: str, name: str, body: Json) -> Json:
        """Merge a patch into an object of the project and return it.

        Raises:
            ClusterError: The call failed.
        """
        resource = f"{plural}.{VERSION}.{GROUP}"
        merged = ("--type=merge", "-o", "json", "-p", json.dumps(body))
        done: Json = json.loads(self._run("patch", resource, name, "--namespace", namespace, *merged))
        return done

    @contextmanager
    def watching(self, path: str) -> Iterator[Iterator[Json]]:
        """Yield the events of a watch, which ends when the API server or the caller ends it."""
        command = [self.program, *self.flags, "get", "--raw", path]
        quiet = subprocess.DEVNULL  # the caller looks again, and then reports what is wrong
        with subprocess.Popen(command, stdin=quiet, stdout=subprocess.PIPE, stderr=quiet) as process:  # noqa: S603
            try:
                yield (json.loads(line) for line in process.stdout or ())
            finally:
                process.terminate()

    def default_namespace(self) -> str:
        """Return the namespace of the context, ``default`` if it names none."""
        try:
            view = json.loads(self._run("config", "view", "--minify", "-o", "json"))
        except (ClusterError, ValueError):
            return "default"
        contexts = view.get("contexts") or [{}]
        return str((contexts[0].get("context") or {}).get("namespace") or "default")

    def _pages(self, path: str) -> Iterator[Json]:
        joint, token = "&" if "?" in path else "?", ""
        while True:
            page = self.get(f"{path}{joint}limit={_PAGE}" + (f"&continue={token}" if token else ""))
            yield from page.get("items") or []
            token = (page.get("metadata") or {}).get("continue") or ""
            if not token:
                return

    def _run(self, *arguments: str) -> str:
        timeout = () if arguments[0] == "config" else (f"--request-timeout={_REQUEST_TIMEOUT}",)
        command = [self.program, *self.flags, *timeout, *arguments]
        try:
            done = subprocess.run(  # noqa: S603 - kubectl, with arguments of this program
                command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
            )
        except OSError as error:
            raise UserError(
                f"kubectl can't be run ({error.strerror}): install it, or put it on PATH"
            ) from None
        if done.returncode:
            raise build_cluster_error(done.stderr)
        return done.stdout


def fetch_all(calls: Mapping[Key, Callable[[], Value]]) -> dict[Key, Value]:
    """Make calls side by side and return their results by the same keys.

    Raises:
        ClusterError: The first one that failed.
    """
    with ThreadPoolExecutor(_PARALLEL) as pool:
        started = {key: pool.submit(call) for key, call in calls.items()}
        return {key: future.result() for key, future in started.items()}


def build_cluster_error(stderr: str) -> ClusterError:
    """Return the error that kubectl's standard error stands for."""
    text = stderr.strip()
    found = _SERVER_ERROR.search(text)
    if found:
        return ClusterError(found["reason"], " ".join(found["message"].split()))
    if f"({REASON_UNAUTHORIZED})" in text:
        return ClusterError(REASON_UNAUTHORIZED, "the API server doesn't accept the credentials")
    last = text.splitlines()[-1] if text else "kubectl failed and doesn't say why"
    return ClusterError(REASON_UNREACHABLE, last.removeprefix("error: "))


def parse_secret_table(table: str, *, with_namespace: bool) -> list[SecretRow]:
    """Parse the lines ``[NAMESPACE] NAME TYPE DATA AGE REQUEST``; a name gets its namespace as prefix."""
    rows = []
    for line in table.splitlines():
        cells = line.split()
        prefix = f"{cells.pop(0)}/" if with_namespace and cells else ""
        if len(cells) >= _SECRET_COLUMNS:
            request = cells[_SECRET_COLUMNS] if len(cells) > _SECRET_COLUMNS else ""
            rows.append(SecretRow(prefix + cells[0], cells[1], request.replace("<none>", "")))
    return rows


def _or_gap(call: Callable[[], Value]) -> Value | Gap:
    try:
        return call()
    except ClusterError as error:
        if error.reason in _ANSWERS:
            return build_gap(error)
        raise
