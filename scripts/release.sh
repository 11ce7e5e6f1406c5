#!/usr/bin/env bash
# Builds the binary for distribution: target/dist/passloom without debug information, and beside it passloom.debug, from
# which backtraces take files and lines while both are in one directory.
set -euo pipefail
cd "$(dirname "$0")/.."

cargo build --release --locked
built="${CARGO_TARGET_DIR:-target}/release/passloom"
mkdir -p target/dist
cp "$built" target/dist/passloom
cd target/dist
objcopy --only-keep-debug passloom passloom.debug
objcopy --strip-debug --add-gnu-debuglink=passloom.debug passloom
ls -l passloom passloom.debug
