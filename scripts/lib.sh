# What the scripts share. Sourced from the repository's top folder; POSIX sh.
# shellcheck shell=sh disable=SC2034 # used where it is sourced

# Where install.sh puts the test tools.
TOOLS_DIR=$PWD/target/test-tools

say() { printf '== %s\n' "$*"; }

die() {
    printf '%s\n' "$*" >&2
    exit 1
}

has() { command -v "$1" >/dev/null 2>&1; }

# Finds cargo also where a shell has not yet read rustup's settings.
find_cargo() {
    has cargo && return 0
    [ -x "${CARGO_HOME:-$HOME/.cargo}/bin/cargo" ] || return 1
    PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
    export PATH
}

# Sets PG_BIN to the folder of a PostgreSQL server's programs: those in PATH, else the newest of Debian's.
find_postgres() {
    if has initdb && has pg_ctl && has postgres; then
        PG_BIN=$(dirname "$(readlink -f "$(command -v postgres)")")
    else
        PG_BIN=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort -V | tail -n 1)
    fi
    [ -x "$PG_BIN/initdb" ] && [ -x "$PG_BIN/pg_ctl" ] && [ -x "$PG_BIN/postgres" ]
}
