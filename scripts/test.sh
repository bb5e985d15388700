#!/usr/bin/env bash
# Lint, format, types, tests on all cores, with the versions of constraints.txt. Arguments go to pytest: scripts/test.sh tests/data -n 0
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in
  -h | --help) sed -n '2s/^# //p' "${BASH_SOURCE[0]}"; exit 0 ;;
esac

bash scripts/setup.sh dev
step() { echo "== $*"; ".venv/bin/$@"; }
step ruff check
step ruff format --check
step mypy
# a file's tests stay in one process, which makes its fixtures once
step pytest -n auto --dist loadfile "$@"
