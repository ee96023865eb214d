#!/bin/sh
# Measures Vouchsafe against its bounds: builds in release, starts a private PostgreSQL and a private Redis, runs everything
# in benches/, prints a table and leaves it in target/bench.md. docs/BENCHMARKS.md says how to read it.
#
#   BENCH=verify,refresh    only these parts, of: embedded verify refresh sqlite login storm memory sidecar revocation enumeration users audit
#   BENCH_SECONDS=12        about how long each comparison lasts
#
# Nothing is left running, whatever happens.
set -eu
cd "$(dirname "$0")/.."
sh scripts/install.sh test
. scripts/lib.sh
. scripts/postgres.sh
. scripts/redis.sh
find_cargo
find_postgres
find_redis

child=
cleanup() {
    status=$?
    trap '' INT TERM HUP
    trap - EXIT
    [ -z "$child" ] || kill -s KILL -- "-$child" 2>/dev/null || true
    stop_redis
    stop_postgres
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# One Redis, unlike the many that tests need.
start_one_redis() {
    redis_password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    tries_left=3
    while [ "$tries_left" -gt 0 ]; do
        REDIS_DIR=$(mktemp -d "${TMPDIR:-/tmp}/vouchsafe-redis.XXXXXX")
        port=$(free_port)
        launch "$REDIS_SERVER" plain "port $port" "requirepass $redis_password"
        if wait_for PONG "$port" ping; then
            export VOUCHSAFE_TEST_REDIS_URL="redis://:$redis_password@127.0.0.1:$port"
            return 0
        fi
        tries_left=$((tries_left - 1))
        stop_redis
    done
    die "Redis does not start"
}

say "build"
cargo bench --locked --bench bounds --no-run

start_postgres
start_one_redis
say "$(cargo --version), $("$PG_BIN/postgres" --version | cut -d ' ' -f 1-3), Redis $(redis-cli --version | cut -d ' ' -f 2)"
# In a process group of its own, and waited for in the background, so that a signal to this script is answered at once.
setsid cargo bench --quiet --locked --bench bounds &
child=$!
wait "$child"
child=
