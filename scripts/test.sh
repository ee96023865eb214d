#!/bin/sh
# Every check of this project, from a fresh Debian machine with Rust and git. `make test` and CI call it.
#
#   test.sh                      install what is missing, lint, then every test with private servers; a summary
#   test.sh --lint               only the checks that run nothing
#   test.sh --services CMD ...   only the services: start them, run CMD (default: show their versions), stop them.
#                                While working: scripts/test.sh --services cargo test refresh
#   test.sh --install-only       only the installation; prints the versions
#
# CMD and the tests see VOUCHSAFE_TEST_POSTGRES_URL (a superuser on the database `postgres`), VOUCHSAFE_TEST_PGBOUNCER_URL
# (the same through PgBouncer), VOUCHSAFE_TEST_PG_BIN (the folder with PostgreSQL's programs, for tests that stop a server
# of their own), what scripts/redis.sh exports, and VOUCHSAFE_TEST_TOOLS (the folder with buf, grpcurl, promtool,
# Envoy and Python).
# Nothing is left running, whatever happens to the tests or this script.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/postgres.sh
. scripts/redis.sh
. scripts/pgbouncer.sh

child=
times=
rehearsal_failed=
export VOUCHSAFE_TEST_TOOLS="$TOOLS_DIR/bin"

# end_group PGID: ends every process of a group, politely first.
end_group() {
    kill -s TERM -- "-$1" 2>/dev/null || return 0
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        kill -s 0 -- "-$1" 2>/dev/null || return 0
        sleep 0.5
    done
    kill -s KILL -- "-$1" 2>/dev/null || true
}

cleanup() {
    status=$?
    trap '' INT TERM HUP
    trap - EXIT
    [ -z "$child" ] || end_group "$child"
    stop_redis
    stop_pgbouncer
    stop_postgres
    exit "$status"
}
trap cleanup EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
trap 'exit 129' HUP

# run CMD ...: in a process group of its own, and waited for in the background, so that a signal to this script is
# answered at once and reaches the test servers that cargo's grandchildren started.
run() {
    env --default-signal=INT,QUIT setsid "$@" &
    child=$!
    result=0
    wait "$child" || result=$?
    if kill -s 0 -- "-$child" 2>/dev/null; then
        sleep 1
        if kill -s 0 -- "-$child" 2>/dev/null; then
            echo "warning: $1 left processes running; they are ended now" >&2
            end_group "$child"
        fi
    fi
    child=
    return "$result"
}

# step NAME CMD ...: one check; the first that fails ends the run.
step() {
    name=$1
    shift
    say "$name"
    begun=$(date +%s)
    run "$@" || {
        result=$?
        printf 'FAILED: %s\n' "$name" >&2
        exit "$result"
    }
    times="$times$(printf '%5d s  %s' $(($(date +%s) - begun)) "$name")
"
}

lint() {
    step "format" cargo fmt --check
    # shellcheck disable=SC2016 # expanded by the inner shell
    step "protos" sh -c 'cd proto && exec "$VOUCHSAFE_TEST_TOOLS/buf" lint'
    step "dependencies" "$VOUCHSAFE_TEST_TOOLS/cargo-deny" --locked check bans licenses sources
    step "features" sh scripts/check-features.sh
    step "deployment files" sh scripts/check-deploy.sh
    step "clippy, verifier alone" \
        cargo clippy --lib --locked --no-default-features --features verifier -- -D warnings
    step "clippy, sidecar alone" \
        cargo clippy --lib --locked --no-default-features --features sidecar -- -D warnings
    step "clippy" cargo clippy --all-targets --locked -- -D warnings
    step "documentation" env RUSTDOCFLAGS="-D warnings" cargo doc --lib --no-deps --locked
}

# All the tests, even after a failure; libtest's report goes to the log too, which the summary counts.
tests() {
    log=target/test.log
    say "tests"
    begun=$(date +%s)
    tests_status=0
    # shellcheck disable=SC2016 # expanded by the inner shell
    run sh -c '{ cargo test --locked --no-fail-fast 3>&-; echo $? >&3; } 3>"$1.status" | tee "$1"' sh "$log" ||
        tests_status=$?
    [ "$tests_status" != 0 ] || tests_status=$(cat "$log.status")
    times="$times$(printf '%5d s  %s' $(($(date +%s) - begun)) "tests")
"
}

# What deploy/ describes, run without containers. After the tests, which have built the program.
rehearsal() {
    say "deployment"
    begun=$(date +%s)
    run "$VOUCHSAFE_TEST_TOOLS/python" scripts/rehearse-deploy.py target/debug/vouchsafe || {
        echo "FAILED: deployment" >&2
        rehearsal_failed=1
    }
    times="$times$(printf '%5d s  %s' $(($(date +%s) - begun)) "deployment")
"
}

# Counts from libtest's own lines. The last line is the result of the whole run.
summary() {
    awk '
        / \.\.\. ok$/ && /^test .*::sqlite::/ { sqlite++ }
        / \.\.\. ok$/ && /^test .*::postgres::/ { postgres++ }
        / \.\.\. ok$/ && /^test .*::pgbouncer::/ { pgbouncer++ }
        / \.\.\. ok$/ && match($2, /::(redis|redis_tls|redis_unix|sentinel|cluster|valkey)::/) { hot[substr($2, RSTART + 2, RLENGTH - 4)]++ }
        / \.\.\. FAILED$/ && /^test / { red[++reds] = $2 }
        /^test result: / { passed += $4; failed += $6; ignored += $8 }
        END {
            for (i = 1; i <= reds; i++) printf "failed: %s\n", red[i]
            printf "conformance: sqlite %d, postgres %d, pgbouncer %d\n", sqlite, postgres, pgbouncer
            printf "hot state: redis %d, redis with TLS %d, redis by socket %d, sentinel %d, cluster %d, valkey %d\n",
                hot["redis"], hot["redis_tls"], hot["redis_unix"], hot["sentinel"], hot["cluster"], hot["valkey"]
            printf "%d passed, %d failed%s\n", passed, failed, ignored ? ", " ignored " skipped" : ""
            exit !passed || failed || !sqlite != !postgres || !sqlite != !pgbouncer || !sqlite != !hot["cluster"]
        }' "$log" >"$log.summary" || counted=1
}

report() {
    counted=0
    summary
    echo
    say "time"
    printf '%s' "$times"
    say "summary"
    if [ "$tests_status" = 0 ] && [ "$counted" != 0 ]; then
        echo "no test ran, or one database's tests did not: see target/test.log"
        tests_status=1
    elif [ "$tests_status" != 0 ] && ! grep -q '^failed: ' "$log.summary"; then
        echo "the tests did not build, or one of their processes died: see above"
    fi
    if [ -n "$rehearsal_failed" ]; then
        echo "failed: scripts/rehearse-deploy.py"
        tests_status=1
    fi
    cat "$log.summary"
    return "$tests_status"
}

show_versions() {
    cargo --version
    cc --version | head -n 1
    "$PG_BIN/postgres" --version
    "$REDIS_SERVER" --version
    "$VALKEY_SERVER" --version
    find_pgbouncer && "$PGBOUNCER" --version | head -n 1
    oathtool --version | head -n 1
    "$VOUCHSAFE_TEST_TOOLS/python" --version
    "$VOUCHSAFE_TEST_TOOLS/promtool" --version 2>&1 | head -n 1
    echo "buf $("$VOUCHSAFE_TEST_TOOLS/buf" --version)"
    "$VOUCHSAFE_TEST_TOOLS/grpcurl" --version 2>&1
    "$VOUCHSAFE_TEST_TOOLS/envoy" --version | grep version
    "$VOUCHSAFE_TEST_TOOLS/cargo-deny" --version
    echo "node $("$VOUCHSAFE_TEST_TOOLS/node" --version)"
    "$VOUCHSAFE_TEST_TOOLS/chromium" --version
    "$VOUCHSAFE_TEST_TOOLS/python" -m pip list --disable-pip-version-check --format=freeze | grep -i -E 'jwt|joserfc|crypto|django|bcrypt|argon2|passlib|smtp'
}

mode=${1:-all}
[ $# = 0 ] || shift
case $mode in
all | --lint | --services | --install-only) ;;
*) die "usage: test.sh [--lint | --services [CMD ...] | --install-only]" ;;
esac

sh scripts/install.sh test
find_cargo
find_postgres
find_redis
find_valkey
export VOUCHSAFE_TEST_PG_BIN="$PG_BIN"
mkdir -p target

case $mode in
all)
    lint
    step "peers" "$VOUCHSAFE_TEST_TOOLS/python" tests/peers/selfcheck.py
    start_postgres
    start_pgbouncer
    start_redis
    tests
    rehearsal
    stop_redis
    stop_pgbouncer
    stop_postgres
    report
    ;;
--lint) lint ;;
--services)
    start_postgres
    start_redis
    start_pgbouncer
    [ $# != 0 ] || set -- "$PG_BIN/psql" -X -A -t -c "SELECT version()" "$VOUCHSAFE_TEST_POSTGRES_URL"
    run "$@"
    ;;
--install-only) show_versions ;;
esac
