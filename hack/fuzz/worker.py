"""Run one target under atheris: ``python -m fuzz.worker TARGET [options and folders of libFuzzer]``.

Zone: tools. The product's modules are instrumented while they are imported, so atheris comes first.
"""

import logging
import sys
import tempfile

import atheris  # type: ignore[import-untyped] # installed by `make fuzz` only

from fuzz.json_mutator import mutate
from fuzz.target import Target, load, run_within_time


def main() -> None:
    """Fuzz until libFuzzer ends, which ends the process."""
    name, *options = sys.argv[1:]
    # Where an internal error came from; of what is refused nobody needs a line.
    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("%(message)s %(frames)s", defaults={"frames": ""}))
    logging.basicConfig(level=logging.ERROR, handlers=[handler])
    with atheris.instrument_imports(include=["datakeys", "jwt"]):
        target = load(name)
    with tempfile.NamedTemporaryFile("w", suffix=".dict") as dictionary:
        dictionary.writelines(f'"{_escape(word)}"\n' for word in target.words)
        dictionary.flush()
        # For -merge libFuzzer starts itself again, by a shell and with its first argument unquoted.
        command = [f"{sys.executable} -m fuzz.worker {name}", *options]
        command += [f"-max_len={target.max_bytes}", *([f"-dict={dictionary.name}"] if target.words else [])]
        _fuzz(command, target)


def _fuzz(command: list[str], target: Target) -> None:
    def change(data: bytes, max_bytes: int, seed: int) -> bytes:
        return mutate(data, max_bytes, seed, target.words, atheris.Mutate)

    mutator = {"custom_mutator": change} if target.has_json else {}
    atheris.Setup(command, lambda data: run_within_time(target, data), **mutator)
    atheris.Fuzz()


def _escape(word: str) -> str:
    return "".join(
        chr(byte) if 0x20 <= byte < 0x7F and byte not in b'"\\' else f"\\x{byte:02x}"  # noqa: PLR2004 - ASCII
        for byte in word.encode()
    )


if __name__ == "__main__":
    main()
