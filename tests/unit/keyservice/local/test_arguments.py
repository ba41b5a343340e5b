"""The command line of the local mode."""

from pathlib import Path

import pytest

from datakeys.contract.environment import Address
from datakeys.keyservice.local.arguments import Arguments, Credentials, is_region, parse_arguments


def test_defaults() -> None:
    """With --local alone: loopback, memory, every Region, AWS's example account, any credentials."""
    assert parse_arguments(["--local"]) == Arguments(
        Address("127.0.0.1", 8080), None, None, "123456789012", None, unsigned_allowed=False
    )


def test_everything_given(tmp_path: Path) -> None:
    """Every option arrives; the secret is read from its file, without the line's end."""
    secret = tmp_path / "secret"
    secret.write_text("s3cret\n")
    given = parse_arguments(
        [
            *("--local", "--listen", "[::1]:0", "--data-dir", "/d", "--region", "eu-west-1"),
            *(
                "--account",
                "000000000001",
                "--access-key-id",
                "AKID",
                "--secret-access-key-file",
                str(secret),
            ),
        ]
    )
    assert given == Arguments(
        Address("::1", 0), Path("/d"), "eu-west-1", "000000000001", Credentials("AKID", "s3cret")
    )
    assert "s3cret" not in repr(given)


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["--listen", "127.0.0.1:1"], "--local"),
        (["--local", "--listen", "8080"], "--listen"),
        (["--local", "--listen", "h:65536"], "--listen"),
        (["--local", "--region", "europe"], "--region"),
        (["--local", "--account", "1234"], "--account"),
        (["--local", "--account", "12345678901\uff12"], "--account"),
        (["--local", "--access-key-id", "AKID"], "--secret-access-key-file"),
        (["--local", "--secret-access-key-file", "/x"], "--access-key-id"),
        (["--local", "--access-key-id", "a b", "--secret-access-key-file", "/x"], "--access-key-id"),
        (
            ["--local", "--access-key-id", "A", "--secret-access-key-file", "/none"],
            "--secret-access-key-file",
        ),
        (["--local", "--access-key-id", "A", "--secret-access-key-file", "/dev/null"], "is empty"),
        (
            ["--local", "--access-key-id", "A", "--secret-access-key-file", "/x", "--allow-unsigned"],
            "--allow-unsigned",
        ),
        (["--local", "--unknown"], "--unknown"),
        (["--loc"], "--local"),
    ],
)
def test_wrong_arguments_are_named(
    arguments: list[str], named: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is wrong ends the process with code 2 and a line that names it."""
    with pytest.raises(SystemExit) as caught:
        parse_arguments(arguments)
    assert caught.value.code == 2
    assert named in capsys.readouterr().err


@pytest.mark.parametrize("name", ["us-east-1", "eu-isoe-west-1", "us-gov-west-1", "ap-southeast-12"])
def test_regions(name: str) -> None:
    """Names of AWS's form are Regions."""
    assert is_region(name)


@pytest.mark.parametrize("name", ["", "us", "us-east", "../x-1", "us-east-1/..", "US-EAST-1", "us-east-1\n"])
def test_no_regions(name: str) -> None:
    """Nothing else is, so a name can be a file's."""
    assert not is_region(name)
