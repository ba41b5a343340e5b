"""The fuzzer's own parts: changes of JSON, and what is kept of what was found."""

import json
from pathlib import Path

import pytest

from fuzz import __main__ as fuzz
from fuzz.json_mutator import mutate
from fuzz.target import FixedRandom

WORDS = ("Decrypt", "KeyId")
DATA = b'Decrypt\n{"KeyId": "alias/a", "Tags": [{"TagKey": "\xc3\xa9"}, 7, null], "DryRun": true}'


def flip(data: bytes, max_bytes: int) -> bytes:
    """Stand in for the fuzzer's own changes."""
    return bytes(byte ^ 1 for byte in data)[:max_bytes]


def test_changes_are_repeatable_and_mostly_json() -> None:
    """The same seed gives the same input; most are JSON, half of them differ, none is too long."""
    results = [mutate(DATA, 400, seed, WORDS, flip) for seed in range(1000)]
    assert results == [mutate(DATA, 400, seed, WORDS, flip) for seed in range(1000)]
    assert max(map(len, results)) <= 400
    assert len(set(results)) > 500
    assert sum(_is_json(result) for result in results) > 600


@pytest.mark.parametrize(
    "data", [b"", b"no line", b"a\nno json", b"a\n" + b"[" * 5000, b"a\n" + b"[" * 900 + b"]" * 900]
)
def test_what_is_no_json_is_changed_as_bytes(data: bytes) -> None:
    """No input ends the fuzzer."""
    assert all(isinstance(mutate(data, 6000, seed, WORDS, flip), bytes) for seed in range(50))


def test_corpus_keeps_crashes_and_the_smallest_inputs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A merge replaces what was there, but never the input of a finding; it stops at the budget."""
    kept, merged = tmp_path / "kept", tmp_path / "merged"
    for folder, names in ((kept, ("crash-1", "old")), (merged, ("a", "bb", "ccc"))):
        folder.mkdir()
        for name in names:
            (folder / name).write_text(name)
    monkeypatch.setattr(fuzz, "MAX_CORPUS_BYTES", 3)
    fuzz._replace(kept, [merged / name for name in ("a", "bb", "ccc")])
    assert {path.name for path in kept.iterdir()} == {"crash-1", "a", "bb"}


@pytest.mark.parametrize("results", [[(1, "no atheris")], [(0, ""), (1, "merge")], [(0, ""), (0, "")]])
def test_a_fuzzer_that_fails_leaves_the_corpus_alone(
    results: list[tuple[int, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It isn't there, it can't merge, or the merge has kept nothing."""
    monkeypatch.setattr(fuzz, "CORPUS", tmp_path / "corpus")
    monkeypatch.setattr(fuzz, "_WORK", tmp_path / "work")
    monkeypatch.setattr(fuzz, "_run", lambda *_: results.pop(0))
    kept = tmp_path / "corpus/encrypted-data-key/kept"
    kept.parent.mkdir(parents=True)
    kept.write_bytes(b"input")
    with pytest.raises(RuntimeError, match="encrypted-data-key failed"):
        fuzz.fuzz("encrypted-data-key", 1)
    assert kept.read_bytes() == b"input"


def test_crash_gets_its_own_name(tmp_path: Path) -> None:
    """By it the corpus knows it, whatever kind of finding it was."""
    artifact = tmp_path / "oom-0123456789abcdef"
    artifact.write_bytes(b"input")
    kept = tmp_path / "kept"
    kept.mkdir()
    assert fuzz._keep_crash(artifact, kept) == "crash-0123456789ab"
    assert (kept / "crash-0123456789ab").read_bytes() == b"input"


def test_fixed_randomness_is_the_same_in_every_process() -> None:
    """A corpus holds blobs that only open if the keys are the same again."""
    assert FixedRandom()(4).hex() == "22911f24"
    source = FixedRandom()
    assert source(16) != source(16)


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data.partition(b"\n")[2])
    except ValueError:
        return False
    return True
