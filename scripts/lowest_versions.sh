#!/usr/bin/env bash
# scripts/lowest_versions.sh [--keep NAMES] [arguments of pytest]
#
# Are the lower bounds of pyproject.toml true? Makes build/lowest, an environment with the lower bound of each dependency,
# those of the tests too (numpy>=1.26: numpy 1.26.0), and runs the default tier of the tests in it.
#
#   scripts/lowest_versions.sh                              all of them, every test of the default tier
#   scripts/lowest_versions.sh --keep torch tests/losses    torch as .venv has it, and the tests of one folder
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

keep=
case ${1:-} in
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
  --keep) keep=${2:?--keep needs names: --keep torch,lightning}; shift 2 ;;
esac

bash scripts/setup.sh dev
here=$(.venv/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
rm -rf build/lowest
.venv/bin/python -m venv --without-pip build/lowest
lowest=$(build/lowest/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo "$here" > "$lowest/others.pth"  # what is installed in build/lowest itself goes first

.venv/bin/python - "$keep" > build/lowest/pins.txt << 'PYTHON'
import re, sys, tomllib

TOOLS = {"mypy", "pytest", "pytest-xdist", "ruff", "setuptools"}  # what runs the tests, and no part of what is tested
kept = {name.strip() for name in sys.argv[1].split(",") if name.strip()}
with open("pyproject.toml", "rb") as file:
    project = tomllib.load(file)["project"]
lines = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
bounds = [re.match(r"([\w-]+)(\[\w+\])?>=([\d.]+)", line).groups("") for line in lines]
if unknown := kept - {name for name, _, _ in bounds}:
    sys.exit(f"lowest_versions: no dependency: {', '.join(sorted(unknown))}; known: {', '.join(name for name, _, _ in bounds)}")
for name, extra, version in bounds:
    if name not in kept | TOOLS:
        print(f"{name}{extra}=={version}")
PYTHON

echo "lowest_versions:" $(cat build/lowest/pins.txt)
.venv/bin/python -m pip --python build/lowest/bin/python install --quiet --disable-pip-version-check -r build/lowest/pins.txt
PYTHONPATH=. build/lowest/bin/python -m pytest -n auto --dist worksteal "$@"
