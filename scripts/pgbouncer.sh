# A private PgBouncer in transaction mode before the PostgreSQL of postgres.sh. Sourced, after it; POSIX sh.
#
# start_pgbouncer  starts it, and exports VOUCHSAFE_TEST_PGBOUNCER_URL: VOUCHSAFE_TEST_POSTGRES_URL through it. Any database
#                  of the server can be reached under its own name.
# stop_pgbouncer   stops it; may be called at any time, also twice. Its files go with PostgreSQL's.
# shellcheck shell=sh

# Debian puts it where only root's PATH leads.
find_pgbouncer() {
    PGBOUNCER=$(PATH=$PATH:/usr/sbin:/usr/local/sbin command -v pgbouncer)
}

start_pgbouncer() {
    find_pgbouncer || die "no PgBouncer found: run scripts/install.sh test"
    bouncer=$PG_DIR/pgbouncer
    address=${VOUCHSAFE_TEST_POSTGRES_URL#postgres://}
    login=${address%%@*}
    server=${address#*@}
    server=${server%%/*}
    as_postgres mkdir -p "$bouncer"
    printf '"%s" "%s"\n' "${login%%:*}" "${login#*:}" | as_postgres tee "$bouncer/users" >/dev/null
    tries=0
    until port=$(free_port) && write_pgbouncer_ini && as_postgres "$PGBOUNCER" -q -d "$bouncer/pgbouncer.ini" &&
        pgbouncer_answers; do
        stop_pgbouncer
        tries=$((tries + 1))
        if [ "$tries" -ge 3 ]; then
            tail -n 20 "$bouncer/log" >&2 || true
            die "PgBouncer does not start"
        fi
    done
    export VOUCHSAFE_TEST_PGBOUNCER_URL="postgres://$login@127.0.0.1:$port/postgres"
}

# Fewer sessions than a test has connections, so that they do share, and nothing of a session outlives its transaction.
write_pgbouncer_ini() {
    as_postgres tee "$bouncer/pgbouncer.ini" >/dev/null <<INI
[databases]
* = host=${server%:*} port=${server##*:}
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = $port
unix_socket_dir =
auth_type = scram-sha-256
auth_file = $bouncer/users
pool_mode = transaction
default_pool_size = 3
max_client_conn = 1000
server_idle_timeout = 10
logfile = $bouncer/log
pidfile = $bouncer/pid
INI
}

pgbouncer_answers() {
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        kill -s 0 "$(cat "$bouncer/pid" 2>/dev/null)" 2>/dev/null &&
            "$PG_BIN/pg_isready" -q -h 127.0.0.1 -p "$port" && return 0
        sleep 0.2
    done
    return 1
}

stop_pgbouncer() {
    [ -n "$PG_DIR" ] && [ -e "$PG_DIR/pgbouncer/pid" ] || return 0
    kill -s TERM "$(cat "$PG_DIR/pgbouncer/pid")" 2>/dev/null || true
    if [ -d target ]; then cp "$PG_DIR/pgbouncer/log" target/test-pgbouncer.log 2>/dev/null || true; fi
    rm -f "$PG_DIR/pgbouncer/pid"
}
