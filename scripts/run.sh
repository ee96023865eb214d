#!/bin/sh
# Builds and starts the server with its built-in defaults; arguments go to `vouchsafe serve`.
# The development profile builds fastest and still optimises password hashing and signatures.
set -eu
cd "$(dirname "$0")/.."
sh scripts/install.sh build
. scripts/lib.sh
find_cargo
exec cargo run --locked -- serve "$@"
