#!/usr/bin/env bash
# Sets up .venv if needed, then format, lint, types and tests: bash scripts/test.sh [pytest arguments]
set -euo pipefail
source "$(dirname "$0")/setup.sh"
python scripts/fetch_model.py >/dev/null
ruff format --check .
ruff check .
mypy
export HF_HUB_OFFLINE=1
exec pytest -n 2 --dist worksteal "$@"
