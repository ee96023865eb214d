# A private PostgreSQL server for one test run. Sourced, after lib.sh; POSIX sh.
#
# start_postgres  starts it in a new folder, and exports VOUCHSAFE_TEST_POSTGRES_URL: its superuser, on the database
#                 `postgres`. Tests create databases of their own.
# stop_postgres   stops it and removes the folder; may be called at any time, also twice.
# shellcheck shell=sh

PG_DIR=

# The server refuses to run as root.
as_postgres() {
    if [ "$(id -u)" != 0 ]; then
        "$@"
    else
        (cd / && exec setpriv --reuid="$PG_USER" --regid="$(id -g "$PG_USER")" --clear-groups "$@")
    fi
}

# A folder that the server's user can reach, with a path short enough for a Unix socket in it (107 bytes).
make_postgres_dir() {
    PG_USER=$(id -un)
    if [ "$PG_USER" = root ]; then
        PG_USER=postgres
        id -u postgres >/dev/null 2>&1 || PG_USER=nobody
    fi
    for base in "${TMPDIR:-/tmp}" /tmp; do
        [ "${#base}" -le 60 ] || continue
        PG_DIR=$(mktemp -d "$base/vouchsafe-pg.XXXXXX") || continue
        chown "$PG_USER" "$PG_DIR"
        as_postgres test -w "$PG_DIR" && return 0
        rm -rf "$PG_DIR"
        PG_DIR=
    done
    die "no folder for PostgreSQL: user $PG_USER can write neither in ${TMPDIR:-/tmp} nor in /tmp"
}

# A TCP port nobody listens on, below the range that the kernel hands out to others.
free_port() {
    python3 - <<'PYTHON'
import random, socket
for port in random.sample(range(20000, 32000), 100):
    with socket.socket() as s:
        try:
            s.bind(("127.0.0.1", port))
        except OSError:
            continue
        print(port)
        break
PYTHON
}

start_postgres() {
    find_postgres || die "no PostgreSQL server found: run scripts/install.sh test"
    make_postgres_dir
    password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    printf '%s\n' "$password" >"$PG_DIR/password"
    chown "$PG_USER" "$PG_DIR/password"
    # Linguistic order, as a real server has: a query that counts on byte order must fail here.
    locale="--locale=C.UTF-8"
    if "$PG_BIN/initdb" --help | grep -q -e --icu-locale; then
        locale="$locale --locale-provider=icu --icu-locale=en-US"
    fi
    # A password, since other users of this machine can reach the port.
    # shellcheck disable=SC2086 # a list of words
    as_postgres "$PG_BIN/initdb" -D "$PG_DIR/data" -U postgres --pwfile="$PG_DIR/password" --auth=password \
        --encoding=UTF8 $locale --no-sync >"$PG_DIR/initdb.log" 2>&1 || {
        cat "$PG_DIR/initdb.log" >&2
        die "initdb failed"
    }
    # Nothing here outlives the run, so nothing is flushed to disk.
    as_postgres tee -a "$PG_DIR/data/postgresql.conf" >/dev/null <<CONF
listen_addresses = '127.0.0.1'
unix_socket_directories = '$PG_DIR'
max_connections = 300
shared_buffers = 128MB
fsync = off
full_page_writes = off
max_wal_size = 2GB
timezone = 'UTC'
log_timezone = 'UTC'
log_line_prefix = '%m [%p] %d '
CONF
    tries=0
    until port=$(free_port) && as_postgres "$PG_BIN/pg_ctl" -D "$PG_DIR/data" -l "$PG_DIR/log" -o "-p $port" -s -w start; do
        tries=$((tries + 1))
        if [ "$tries" -ge 3 ]; then
            tail -n 20 "$PG_DIR/log" >&2 || true
            die "PostgreSQL does not start"
        fi
    done
    export VOUCHSAFE_TEST_POSTGRES_URL="postgres://postgres:$password@127.0.0.1:$port/postgres"
}

stop_postgres() {
    [ -n "$PG_DIR" ] || return 0
    if [ -e "$PG_DIR/data/postmaster.pid" ]; then
        as_postgres "$PG_BIN/pg_ctl" -D "$PG_DIR/data" -s -w -m immediate stop || true
    fi
    if [ -e "$PG_DIR/log" ] && [ -d target ]; then cp "$PG_DIR/log" target/test-postgres.log || true; fi
    rm -rf "$PG_DIR"
    PG_DIR=
}
