"""What fuzzing has found stays found: the whole corpus is replayed, without the fuzzer."""

from pathlib import Path

import pytest

from fuzz.__main__ import CORPUS, MAX_CORPUS_BYTES, MAX_INPUTS
from fuzz.target import TARGETS, Finding, Target, load, require, run_within_time

TARGET_FOLDER = Path(__file__).parents[3] / "hack/fuzz/targets"


def _read_corpus(name: str) -> list[Path]:
    return sorted((CORPUS / name).iterdir())


def _run_all(target: Target, inputs: dict[str, bytes]) -> None:
    for name, data in inputs.items():
        try:
            run_within_time(target, data)
        except Exception as error:
            error.add_note(f"input: {name}")
            raise


@pytest.mark.parametrize("name", TARGETS)
def test_every_input_of_the_corpus_is_taken_as_documented(name: str) -> None:
    """Seeds and corpus: no exception but the documented ones, no internal error, a second at most."""
    target = load(name)
    corpus = {str(path): path.read_bytes() for path in _read_corpus(name)}
    assert corpus, f"{name} has no corpus: run make fuzz TARGETS={name}"
    try:
        _run_all(target, {f"seed {number}": seed for number, seed in enumerate(target.seeds())} | corpus)
    finally:
        target.close()


def test_every_target_is_listed() -> None:
    """A module of a target that nobody runs would look like a guard."""
    modules = {path.stem for path in TARGET_FOLDER.glob("*.py")} - {"__init__"}
    assert modules == set(TARGETS.values())
    assert {path.name for path in CORPUS.iterdir()} == set(TARGETS)


@pytest.mark.parametrize("name", TARGETS)
def test_corpus_is_small(name: str) -> None:
    """It is replayed with every test run, and every clone has it; crashes come on top."""
    sizes = [path.stat().st_size for path in _read_corpus(name)]
    assert len(sizes) <= MAX_INPUTS + 20
    assert sum(sizes) <= MAX_CORPUS_BYTES + 100_000


def test_a_finding_is_raised() -> None:
    """What must hold and doesn't ends the run: without it no target could find anything."""
    with pytest.raises(Finding, match="an internal error: 500"):
        require(False, "an internal error", 500)  # noqa: FBT003 - as the targets call it
