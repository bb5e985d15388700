#!/usr/bin/env bash
# scripts/test.sh [--all] [arguments of pytest]
#
# Lint and format (ruff), types (mypy) and tests (pytest, on all cores), side by side, with the versions of constraints.txt.
#
#   scripts/test.sh                        the default tier: minutes
#   scripts/test.sh --all                  every tier: also the tests marked process (they start processes) and slow; and
#                                          the documentation site, where a link that leads nowhere is an error
#   scripts/test.sh tests/data -n 0        those of one folder, in one process
#   scripts/test.sh tests/test_kills.py::test_name    a test that is named runs whatever its tier
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-} in
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
esac

bash scripts/setup.sh dev
unset PYTHONDONTWRITEBYTECODE  # images of containers set it, and each worker of pytest would compile all tests again
failed=()
step() { echo "== $*"; ".venv/bin/$@" || failed+=("$1"); }

beside=$(mktemp)
trap 'rm -f "$beside"' EXIT
.venv/bin/mypy > "$beside" 2>&1 &
types=$!
step ruff check
step ruff format --check
step pytest -n auto --dist worksteal "$@"
if [ "${1:-}" = --all ]; then
  echo "== scripts/docs.sh build"
  bash scripts/docs.sh build || failed+=(docs)
fi
echo "== mypy"
wait "$types" || failed+=(mypy)
cat "$beside"
if [ ${#failed[@]} -gt 0 ]; then
  echo "FAILED: ${failed[*]}"
  exit 1
fi
