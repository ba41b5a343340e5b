"""Fuzz: ``python -m fuzz [--seconds N] [TARGET ...]``, one target after the other, and keep the corpus small.

Zone: tools. A finding's input is added to the corpus as ``crash-…``; the unit tests replay it from then on.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from fuzz.target import TARGETS, load

_ROOT: Final = Path(__file__).parents[2]
CORPUS: Final = _ROOT / "tests" / "fuzz_corpus"
_WORK: Final = _ROOT / "dist" / "fuzz"
#: Of a target's corpus. It is replayed in every test run.
MAX_INPUTS: Final = 400
MAX_CORPUS_BYTES: Final = 200_000
CRASH_PREFIX: Final = "crash-"
_LIMITS: Final = ("-rss_limit_mb=1024", "-timeout=20", "-print_final_stats=1")
_ARTIFACT: Final = re.compile(r"(crash|oom|timeout|leak|slow-unit)-")
_SHOWN: Final = re.compile(r"^#\d+\s+(INITED|pulse|DONE) .*ft:|Finding|Error|ERROR")
_EXECUTED: Final = re.compile(r"stat::number_of_executed_units:\s+(\d+)")


@dataclass(frozen=True, slots=True)
class Run:
    """What became of a target: inputs run, for how long, and the names of those that were findings."""

    executed: int
    seconds: float
    crashes: tuple[str, ...]


def main() -> int:
    """Fuzz the targets that are named; return 1 if there was a finding."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("--seconds", type=int, default=600, help="for each target (600)")
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=", ".join(TARGETS))
    arguments = parser.parse_args()
    if unknown := sorted(set(arguments.targets) - set(TARGETS)):
        parser.error(f"no target {unknown[0]}; there are {', '.join(TARGETS)}")
    runs = {}
    for name in arguments.targets or TARGETS:
        runs[name] = fuzz(name, arguments.seconds)
        print(f"{name}: {runs[name].executed} inputs in {runs[name].seconds:.0f} s", flush=True)
    for name, run in runs.items():
        for crash in run.crashes:
            print(f"FINDING: {CORPUS.relative_to(_ROOT) / name / crash}", flush=True)
    print(f"{sum(run.executed for run in runs.values())} inputs, {len(runs)} targets", flush=True)
    return 1 if any(run.crashes for run in runs.values()) else 0


def fuzz(name: str, max_seconds: int) -> Run:
    """Fuzz one target from its corpus and its seeds on, then keep the smallest inputs that reach as much.

    Raises:
        RuntimeError: The fuzzer ended without a finding, but not well.
    """
    kept, work = CORPUS / name, _WORK / name
    shutil.rmtree(work, ignore_errors=True)
    found, seeds, merged, artifacts = (work / part for part in ("found", "seeds", "merged", "artifacts"))
    for folder in (kept, found, seeds, merged, artifacts):
        folder.mkdir(parents=True, exist_ok=True)
    target = load(name)
    _write(seeds, target.seeds())
    target.close()
    prefix, folders = f"-artifact_prefix={artifacts}/", [str(folder) for folder in (found, seeds, kept)]
    started = time.monotonic()
    status, output = _run(name, [f"-max_total_time={max_seconds}", prefix, *folders])
    seconds = time.monotonic() - started
    crashes = tuple(_keep_crash(artifact, kept) for artifact in sorted(artifacts.iterdir()))
    if not crashes:
        # After a finding the merge would end with it too; the corpus stays as it is.
        if status == 0:
            status, output_of_merge = _run(name, ["-merge=1", prefix, str(merged), *folders])
            output += output_of_merge
        if status != 0 or not any(merged.iterdir()):
            raise RuntimeError(f"the fuzzer of {name} failed: {output[-2000:]}")
        _replace(kept, sorted(merged.iterdir(), key=lambda path: path.stat().st_size))
    executed = _EXECUTED.findall(output)
    return Run(int(executed[0]) if executed else 0, seconds, crashes)


def _run(name: str, options: Sequence[str]) -> tuple[int, str]:
    """Run the worker, show its progress, and return its exit status and all that it printed."""
    command = [sys.executable, "-m", "fuzz.worker", name, *_LIMITS, *options]
    lines = []
    with subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, errors="replace"
    ) as process:
        for line in process.stderr or ():
            lines.append(line)
            if _SHOWN.search(line):
                print(f"{name}: {line.strip()[:200]}", flush=True)
    return process.returncode, "".join(lines)


def _write(folder: Path, inputs: Iterable[bytes]) -> None:
    for one in inputs:
        (folder / hashlib.sha1(one, usedforsecurity=False).hexdigest()).write_bytes(one)


def _keep_crash(artifact: Path, kept: Path) -> str:
    """Copy a finding into the corpus under its own name, which a merge leaves alone; return the name."""
    name = CRASH_PREFIX + _ARTIFACT.sub("", artifact.name)[:12]
    shutil.copyfile(artifact, kept / name)
    return name


def _replace(kept: Path, merged: Sequence[Path]) -> None:
    """Put merged inputs, the smallest first, in the place of the corpus; as many as it may hold."""
    for old in kept.iterdir():
        if not old.name.startswith(CRASH_PREFIX):
            old.unlink()
    total = 0
    for path in merged[:MAX_INPUTS]:
        total += path.stat().st_size
        if total > MAX_CORPUS_BYTES:
            return
        shutil.copyfile(path, kept / path.name)


if __name__ == "__main__":
    sys.exit(main())
