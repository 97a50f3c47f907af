#!/usr/bin/env bash
# All of BlockLM on one repository, a path or a URL: bash scripts/quickstart.sh [REPO] [--key value ...]
# Sets up .venv, fetches the embedded model, trains on REPO (default: this repository) and prints the score.
set -euo pipefail
if [ "${1:-}" = "-h" ] || [ "${1:-}" = "--help" ]; then sed -n '2,3s/^# //p' "$0"; exit 0; fi
repo=.
if [ $# -gt 0 ] && [ "${1#--}" = "$1" ]; then repo=$1; shift; fi
if [ -d "$repo" ]; then repo=$(cd "$repo" && pwd); fi
source "$(dirname "$0")/setup.sh"
python scripts/fetch_model.py >/dev/null
name=$(basename "${repo%/.git}" .git)
if [ -d "$repo" ]; then head=$(git -C "$repo" rev-parse --short=8 HEAD 2>/dev/null || echo unborn)
else head=$(GIT_TERMINAL_PROMPT=0 git ls-remote -- "$repo" HEAD 2>/dev/null | cut -c1-8 || true); fi
# One process needs no launcher, and accelerate's would turn our exit codes (2, 130, 143) into 1.
exec python scripts/train.py recipes/quickstart.yaml \
    --repo "$repo" --output_dir "runs/$name-${head:-unknown}" "$@"
