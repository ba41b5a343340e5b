#!/usr/bin/env bash
# Make the virtual environment that all commands run in: bootstrap.sh FOLDER
set -euo pipefail

venv=$1
root=$(cd "$(dirname "$0")/.." && pwd)

# First, since its own python3 may be the first on PATH.
rm -rf "$venv"

say() { printf '==> %s\n' "$*"; }

python=${PYTHON3:-python3}
if ! "$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
  echo "Python 3.11 or newer is needed; set PYTHON3 to its command" >&2
  exit 1
fi
if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  say "installing Debian package python3-venv"
  apt-get install -y -q python3-venv >/dev/null || { apt-get update -q && apt-get install -y -q python3-venv; }
fi

say "installing Python packages of requirements/dev.lock into $venv (about a minute)"
mkdir -p "$(dirname "$venv")"
trap 'rm -rf "$venv"' ERR INT TERM
"$python" -m venv "$venv"
"$venv/bin/python" -m pip install -q --disable-pip-version-check --require-hashes -r "$root/requirements/dev.lock"
# A half-made environment must never be taken for a whole one: make looks for this file.
touch "$venv/complete"
