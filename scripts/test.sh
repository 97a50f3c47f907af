#!/usr/bin/env bash
# Sets up .venv if needed, then runs the tests, with format, lint and types beside them: bash scripts/test.sh [pytest arguments]
# The slow ones too: bash scripts/test.sh -m "slow or not slow". With CI=true a program that is missing fails the tests that need it.
set -euo pipefail
source "$(dirname "$0")/setup.sh"
python scripts/fetch_model.py >/dev/null

# What some tests need beyond Python. Where it cannot be installed from here they are skipped, and pytest's summary says so.
packages=()
command -v bwrap >/dev/null || packages+=(bubblewrap)
command -v chromium >/dev/null || command -v chromium-browser >/dev/null || command -v google-chrome >/dev/null || packages+=(chromium)
command -v cc >/dev/null || packages+=(gcc libc6-dev)
command -v nvim >/dev/null || packages+=(neovim)
command -v curl >/dev/null || packages+=(curl)
if [ ${#packages[@]} -gt 0 ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
    echo "installing ${packages[*]} (apt-get)" >&2
    { apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends "${packages[@]}"; } \
        >/dev/null || echo "warning: ${packages[*]} could not be installed" >&2
fi

checks=$(mktemp)
trap 'rm -f "$checks"' EXIT
{ ruff format --check . && ruff check . && mypy; } >"$checks" 2>&1 &
export HF_HUB_OFFLINE=1
tests=0
pytest -n 2 --dist worksteal "$@" || tests=$?
if wait $!; then
    echo "format, lint and types: clean"
else
    cat "$checks"
    echo "format, lint or types: failed, as above"
    exit 1
fi
exit "$tests"
