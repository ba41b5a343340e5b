"""The trust map of the folder tree holds in the code."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
LINT_IMPORTS = Path(sys.executable).parent / "lint-imports"


def test_operator_is_never_a_package() -> None:
    """``operator/__init__.py`` would shadow the standard library's ``operator``."""
    assert not (ROOT / "operator" / "__init__.py").exists()


def test_import_rules_between_rooms_hold() -> None:
    """import-linter finds every contract of pyproject.toml kept."""
    done = subprocess.run(
        [LINT_IMPORTS, "--no-cache"],
        cwd=ROOT,
        env={"PYTHONPATH": "operator", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_sidecar_imports_the_standard_library_only() -> None:
    """Importing every module of the sidecar and the contract loads nothing from site-packages."""
    code = (
        "import pkgutil, sys, importlib, datakeys.sidecar, datakeys.contract\n"
        "for package in (datakeys.sidecar, datakeys.contract):\n"
        "    for module in pkgutil.walk_packages(package.__path__, package.__name__ + '.'):\n"
        "        if not module.name.endswith('__main__'):\n"
        "            importlib.import_module(module.name)\n"
        "names = {name.split('.')[0] for name in sys.modules}\n"
        "print(sorted(names - set(sys.stdlib_module_names) - {'datakeys', '__main__'}))\n"
    )
    done = subprocess.run(
        [
            sys.executable,
            "-I",
            "-S",
            "-c",
            f"import sys; sys.path.insert(0, {str(ROOT / 'operator')!r})\n{code}",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.strip() == "[]", done.stdout + done.stderr


def test_no_grab_bag_modules() -> None:
    """A module is named by its duty."""
    names = {path.name for path in (ROOT / "operator").rglob("*.py")}
    assert not names & {"utils.py", "helpers.py", "common.py", "misc.py"}
