#!/bin/sh
# Makes sure that this machine has what a build or a test run needs beyond Rust and git. Quick when nothing is missing.
#
#   install.sh build   a C compiler and linker: the cryptographic library and SQLite are C
#   install.sh test    also servers of PostgreSQL and Redis, PgBouncer, Python, Node.js, oathtool, Chromium, and in target/test-tools the
#                      tools of tests/requirements.txt and tests/package.json, and promtool
#
# As root on Debian it installs what is missing. Otherwise it prints the one line to run as root, and exits 1; that line
# has --packages-only behind it, to leave alone what belongs to the user: the Rust toolchain and target/.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
. scripts/pgbouncer.sh

what=${1:-}
packages_only=${2:-}
packages=
hints=

# need PACKAGES HINT: notes that something is missing.
need() {
    packages="$packages $1"
    hints="$hints${hints:+; }$2"
}

has_compiler() {
    has cc && printf '#include <stdio.h>\nint main(void) { return 0; }\n' | cc -x c -o /dev/null - 2>/dev/null
}

has_python() { has python3 && python3 -c 'import ensurepip, venv' 2>/dev/null; }

# The cargo commands that rustup's minimal profile leaves out.
check_rust() {
    find_cargo || die "cargo is not in PATH: install Rust first (https://rustup.rs)"
    [ "$what" = test ] || return 0
    cargo fmt --version >/dev/null 2>&1 && cargo clippy --version >/dev/null 2>&1 && return 0
    if has rustup; then
        rustup component add rustfmt clippy
    else
        die "cargo fmt or cargo clippy is missing: install rustfmt and clippy of this Rust toolchain"
    fi
}

list_missing() {
    packages=
    hints=
    has_compiler || need "gcc libc6-dev" "a C compiler (cc) with the C library's headers"
    # rustls, cargo and pip trust the system's certificates.
    [ -s /etc/ssl/certs/ca-certificates.crt ] || need ca-certificates "CA certificates"
    if [ "$(id -u)" = 0 ] && has apt-get && ! has make; then need make "make"; fi
    [ "$what" = build ] && return 0
    find_postgres || need postgresql "a PostgreSQL server (initdb, pg_ctl, postgres)"
    find_redis || need redis-tools "a Redis server (redis-server, redis-cli)"
    find_pgbouncer || need pgbouncer "PgBouncer"
    has_python || need python3-venv "Python 3 with venv"
    { has node && has npm; } || need "nodejs npm" "Node.js with npm"
    has systemd-analyze || need systemd "systemd-analyze"
    has oathtool || need oathtool "oathtool, of the OATH Toolkit"
    find_chromium || need chromium "Chromium"
}

apt_install() {
    DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends \
        -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0 -o Acquire::Retries=3 "$@"
}

# Debian's package would leave a server on port 5432 behind. Its setting is put back, so that only this install differs.
install_postgres() {
    apt_install postgresql-common
    conf=/etc/postgresql-common/createcluster.conf
    [ -e "$conf" ] || : >"$conf"
    cp -p "$conf" "$conf.vouchsafe"
    trap 'mv -f "$conf.vouchsafe" "$conf"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM
    echo 'create_main_cluster = false' >>"$conf"
    apt_install postgresql
    mv -f "$conf.vouchsafe" "$conf"
    trap - EXIT INT TERM
}

# Debian's package would leave a pooler on port 6432 behind, now and after each start of the machine. A policy of the user's
# own is left alone.
install_pgbouncer() {
    policy=/usr/sbin/policy-rc.d
    if [ ! -e "$policy" ]; then
        trap 'rm -f "$policy"' EXIT
        trap 'exit 130' INT
        trap 'exit 143' TERM
        printf '#!/bin/sh\nexit 101\n' >"$policy"
        chmod 755 "$policy"
        apt_install pgbouncer
        rm -f "$policy"
        trap - EXIT INT TERM
    else
        apt_install pgbouncer
        invoke-rc.d pgbouncer stop || true
    fi
    update-rc.d pgbouncer disable
}

install_packages() {
    list_missing
    [ -n "$packages" ] || return 0
    if ! has apt-get; then
        die "missing here: $hints. Install them with this system's package manager, then try again"
    elif [ "$(id -u)" != 0 ]; then
        die "missing here: $hints. Run this once, then try again:
    sudo sh $PWD/scripts/install.sh $what --packages-only"
    fi
    say "installing:$packages"
    # A source of the user's that does not answer is no reason to stop: what is needed may come from the others.
    apt-get update -q || true
    with_postgres=
    with_pgbouncer=
    others=
    for package in $packages; do
        case $package in
        postgresql) with_postgres=1 ;;
        pgbouncer) with_pgbouncer=1 ;;
        *) others="$others $package" ;;
        esac
    done
    # shellcheck disable=SC2086 # a list of words
    [ -z "$others" ] || apt_install $others
    [ -z "$with_postgres" ] || install_postgres
    [ -z "$with_pgbouncer" ] || install_pgbouncer
    list_missing
    [ -z "$packages" ] || die "still missing after the installation: $hints"
}

# The virtual environment is used as it is while the requirements, its place and its interpreter are the same.
install_tools() {
    stamp=$TOOLS_DIR/requirements.stamp
    wanted=$(mktemp)
    { echo "# $TOOLS_DIR"; cat tests/requirements.txt; } >"$wanted"
    if ! cmp -s "$wanted" "$stamp" || ! "$TOOLS_DIR/bin/python" -c '' 2>/dev/null; then
        say "installing the test tools of tests/requirements.txt into target/test-tools"
        mkdir -p "$(dirname "$TOOLS_DIR")"
        python3 -m venv --clear "$TOOLS_DIR"
        # Everything is pinned there, dependencies too.
        "$TOOLS_DIR/bin/python" -m pip install -q --disable-pip-version-check --use-pep517 --no-deps \
            -r tests/requirements.txt
        "$TOOLS_DIR/bin/python" -m pip check -q
        cp "$wanted" "$stamp"
    fi
    rm -f "$wanted"
}

# Libraries for Node.js and for web pages, and Node.js and Chromium themselves where the tests look for programs. Nothing runs
# code while it is installed.
install_node_tools() {
    ln -sf "$(command -v node)" "$TOOLS_DIR/bin/node"
    find_chromium || die "Chromium is missing, or does not start"
    ln -sf "$CHROMIUM" "$TOOLS_DIR/bin/chromium"
    cmp -s tests/package-lock.json "$TOOLS_DIR/package-lock.json" && [ -d "$TOOLS_DIR/node_modules/jose" ] && return 0
    say "installing the libraries of tests/package.json into target/test-tools"
    # The lock file last: it says that all is there.
    folder=$(mktemp -d)
    cp tests/package.json tests/package-lock.json "$folder"
    npm ci --prefix "$folder" --ignore-scripts --no-audit --no-fund --silent
    rm -rf "$TOOLS_DIR/node_modules"
    mv "$folder/node_modules" "$TOOLS_DIR/node_modules"
    cp tests/package-lock.json "$TOOLS_DIR/package-lock.json"
    rm -rf "$folder"
}

# promtool, which says whether Prometheus would take a scrape. Out of Debian's package without installing that: it would
# leave a Prometheus running.
install_promtool() {
    promtool=$TOOLS_DIR/bin/promtool
    "$promtool" --version >/dev/null 2>&1 && return 0
    if has promtool; then
        ln -sf "$(command -v promtool)" "$promtool"
        return 0
    fi
    has apt-get && has dpkg-deb || die "missing here: promtool, of Prometheus. Put it into PATH, then try again"
    say "putting promtool of Debian's prometheus into target/test-tools"
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
    fetch_prometheus || { [ "$(id -u)" = 0 ] && apt-get update -q && fetch_prometheus; } ||
        die "cannot download Debian's package prometheus: run \`apt-get update\` as root, or put promtool into PATH"
    dpkg-deb --fsys-tarfile "$folder"/prometheus_*.deb | tar -x -C "$folder" ./usr/bin/promtool
    mv "$folder/usr/bin/promtool" "$promtool"
    rm -rf "$folder"
    trap - EXIT
    "$promtool" --version >/dev/null
}

fetch_prometheus() {
    (cd "$folder" && apt-get download -q -o APT::Sandbox::User=root -o Acquire::Retries=3 prometheus)
}

case "$what $packages_only" in
"build " | "test " | "build --packages-only" | "test --packages-only") ;;
*) die "usage: install.sh build | test [--packages-only]" ;;
esac

install_packages
[ -z "$packages_only" ] || exit 0
check_rust
[ "$what" = build ] && exit 0
install_tools
install_node_tools
install_promtool
