#!/usr/bin/env bash
# Sourced by the other shell scripts: a virtual environment with exactly requirements.txt, made once.
cd "$(dirname "${BASH_SOURCE[0]}")/.."
stamp=$(cat requirements.txt pyproject.toml | sha256sum | cut -c1-16)
if [ "$(cat .venv/.blocklm-stamp 2>/dev/null)" != "$stamp" ]; then
    echo "setting up .venv from requirements.txt (about 2 minutes the first time)" >&2
    if ! ${PYTHON:-python3} -c 'import sys; sys.exit(sys.version_info < (3, 11))'; then
        echo "error: BlockLM needs Python 3.11, 3.12 or 3.13, and ${PYTHON:-python3} is $(${PYTHON:-python3} --version 2>&1)" >&2
        echo "hint: name another: PYTHON=python3.12 bash scripts/..." >&2
        exit 2
    fi
    ${PYTHON:-python3} -m venv .venv
    .venv/bin/python -m pip install --quiet --disable-pip-version-check --no-compile -r requirements.txt
    # pip would compile on one core. Some packages hold templates that are no Python, so an error means nothing.
    .venv/bin/python -m compileall -q -j 0 .venv/lib >/dev/null 2>&1 || true
    echo "$stamp" >.venv/.blocklm-stamp
fi
export PATH="$PWD/.venv/bin:$PATH"
