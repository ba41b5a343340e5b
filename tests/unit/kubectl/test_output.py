"""Tables for people, and nothing that a terminal or a pipe can't take."""

import io
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from datakeys.kubectl.output import Colour, Console, build_table, clean, format_age
from kubectl_objects import build_console


class Terminal(io.StringIO):
    """A stream that says it is a terminal."""

    encoding = "utf-8"

    def isatty(self) -> bool:
        """Say so."""
        return True


def test_columns_stand_under_their_headers() -> None:
    """An empty cell is a dash, and no line ends with spaces."""
    assert build_table(("NAME", "NOTE"), [["orders", ""], ["x", "gone"]]) == [
        "NAME     NOTE",
        "orders   -",
        "x        gone",
    ]


def test_texts_of_the_cluster_can_t_steer_the_terminal() -> None:
    """A condition's message may hold anything."""
    assert clean("a\x1b[31mred\x1b]0;title\x07 b\r\nc\u202e") == "a[31mred]0;title b  c"


@pytest.mark.parametrize(
    ("since", "age"),
    [
        ("2026-01-02T03:04:00Z", "5s"),
        ("2026-01-02T02:04:05Z", "1h"),
        ("2026-01-02T03:00:05Z", "4m"),
        ("2025-12-02T03:04:05Z", "31d"),
        ("2026-01-02T04:00:00Z", "0s"),
        ("nonsense", ""),
        (None, ""),
    ],
)
def test_ages_are_short(since: str, age: str) -> None:
    """As kubectl has them; a clock that is ahead makes no negative age."""
    assert format_age(since, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)) == age


@pytest.mark.parametrize(
    ("environment", "colours"),
    [({}, True), ({"NO_COLOR": "1"}, False), ({"NO_COLOR": ""}, True), ({"TERM": "dumb"}, False)],
)
def test_colours_follow_the_environment(environment: dict[str, str], colours: bool) -> None:
    """NO_COLOR counts if it isn't empty (no-color.org)."""
    console = Console.of(Terminal(), environment)
    assert console.colours is colours
    assert console.paint("x", Colour.RED) == ("\033[31mx\033[0m" if colours else "x")


def test_a_pipe_gets_no_colour() -> None:
    """Only a terminal does."""
    assert not Console.of(io.StringIO(), {}).colours


def test_letters_that_the_encoding_lacks_are_replaced() -> None:
    """A check mark must not end the program."""
    raw = io.BytesIO()
    console = Console.of(io.TextIOWrapper(raw, encoding="ascii"), {})
    console.line("✓ done")
    console.flush()
    assert raw.getvalue() == b"? done\n"
    assert not console.unicode


def test_documents_name_their_version() -> None:
    """Machines can tell when the form changes."""
    console, out = build_console()
    console.document("KeyList", {"items": []})
    assert '"apiVersion": "kubectl.datakeys.dev/v1"' in out.getvalue()


def test_reader_that_goes_away_is_no_error(tmp_path: Path) -> None:
    """``kubectl kms … | head -1`` ends without a traceback."""
    pod = json.dumps(
        {"kind": "Pod", "metadata": {"name": "x" * 200}, "spec": {"containers": [{"name": "a"}]}}
    )
    path = tmp_path / "pods.yaml"
    path.write_text("\n---\n".join([pod] * 500))
    command = [sys.executable, "-m", "datakeys.kubectl", "inject", "--offline", "-f", str(path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.close()
        assert process.stderr.read() == b""
