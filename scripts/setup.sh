#!/usr/bin/env bash
# Makes .venv with the pinned versions of constraints.txt, by pip alone. `scripts/setup.sh dev` adds the test tools,
# `scripts/setup.sh docs` what builds the documentation site.
# Does nothing, and says so, when nothing has changed since the last time.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

extras=${1:-core}
case $extras in
  core) package=. ;;
  dev | docs) package=".[$extras]" ;;
  *) echo "setup: unknown set '$extras'; known: core, dev, docs" >&2; exit 2 ;;
esac

find_python() {
  local candidate
  for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3.12 python3.13 python3 python; do
    if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
      echo "$candidate"
      return
    fi
  done
  echo "setup: no Python 3.11 or newer found. Install one, or name it: PYTHON=/path/to/python3.11 $0" >&2
  exit 1
}

stamp() { cat pyproject.toml constraints.txt | cksum; }

stamps=("$extras")
if [ "$extras" = core ]; then stamps+=(dev docs); fi  # each holds the core set
for done in "${stamps[@]}"; do
  if [ "$(cat ".venv/.installed-$done" 2>/dev/null)" = "$(stamp)" ]; then
    echo "setup: .venv is up to date; for recsys-lab in this terminal: source .venv/bin/activate"
    exit 0
  fi
done

if [ ! -x .venv/bin/python ]; then
  python=$(find_python)
  echo "setup: making .venv with $("$python" --version)"
  "$python" -m venv .venv || { echo "setup: '$python -m venv' failed (on Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
fi
echo "setup: installing the pinned packages (the first time takes minutes)"
.venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e "$package"
stamp > ".venv/.installed-$extras"
echo "setup: done; for recsys-lab in this terminal: source .venv/bin/activate"
