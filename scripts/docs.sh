#!/usr/bin/env bash
# scripts/docs.sh [build]    builds the documentation site into build/site, and fails at a link that leads nowhere
# scripts/docs.sh serve      shows it at http://127.0.0.1:8000 and follows changes
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

case ${1:-build} in
  build | serve) ;;
  -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "${BASH_SOURCE[0]}"; exit 0 ;;
  *) echo "docs: unknown word '$1'; known: build, serve" >&2; exit 2 ;;
esac

bash scripts/setup.sh docs
export NO_MKDOCS_2_WARNING=1  # mkdocs-material's notice of its end of life in 2027: mkdocs.yml says what then
exec .venv/bin/mkdocs --quiet "${1:-build}"
