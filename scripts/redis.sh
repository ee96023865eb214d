# Private Redis servers for one test run: one plain, one with TLS and a user of few rights, a cluster of three, a primary with
# a replica and a sentinel, and a Valkey. Sourced, after lib.sh; POSIX sh.
#
# start_redis  starts them in a new folder, and exports VOUCHSAFE_TEST_REDIS_URL, VOUCHSAFE_TEST_REDIS_TLS_URL with
#              VOUCHSAFE_TEST_REDIS_TLS_ROOTS, VOUCHSAFE_TEST_REDIS_CLUSTER_URL, VOUCHSAFE_TEST_REDIS_SENTINEL_URL,
#              VOUCHSAFE_TEST_VALKEY_URL, and the program of tests that own their server: VOUCHSAFE_TEST_REDIS_SERVER.
# stop_redis   stops them and removes the folder; may be called at any time, also twice.
# shellcheck shell=sh

REDIS_DIR=
redis_pids=

# What a user of Vouchsafe's needs to be allowed. The README has the same line. On a cluster also +ping +cluster|slots.
REDIS_RIGHTS='~vouchsafe:* +get +set +eval +evalsha +xadd +xread +expire'

# free_ports N: TCP ports nobody listens on, below the range that the kernel hands out to others.
free_ports() {
    python3 - "$1" <<'PYTHON'
import random, socket, sys
held, ports = [], []
for port in random.sample(range(20000, 32000), 200):
    s = socket.socket()
    try:
        s.bind(("127.0.0.1", port))
    except OSError:
        continue
    held.append(s)
    ports.append(str(port))
    if len(ports) == int(sys.argv[1]):
        break
print(" ".join(ports))
PYTHON
}

# launch PROGRAM NAME LINE ...: a server with these lines of configuration, in a folder of its own.
launch() {
    program=$1
    name=$2
    shift 2
    mkdir -p "$REDIS_DIR/$name"
    {
        echo "bind 127.0.0.1"
        echo "dir $REDIS_DIR/$name"
        echo "logfile $REDIS_DIR/$name/log"
        printf '%s\n' "$@"
    } >"$REDIS_DIR/$name/conf"
    case $name in
    sentinel) set -- --sentinel ;;
    *)
        printf '%s\n' 'save ""' "appendonly no" "repl-diskless-sync-delay 0" >>"$REDIS_DIR/$name/conf"
        set --
        ;;
    esac
    # In a session of its own: the terminal's signals are for the tests.
    setsid "$program" "$REDIS_DIR/$name/conf" "$@" >"$REDIS_DIR/$name/out" 2>&1 &
    redis_pids="$redis_pids $!"
}

# cli PORT ARG ...
cli() {
    cli_port=$1
    shift
    REDISCLI_AUTH=$redis_password redis-cli --no-auth-warning -p "$cli_port" "$@" 2>/dev/null
}

# wait_for TEXT PORT ARG ...: until that command's answer holds that text.
wait_for() {
    wanted=$1
    shift
    tries=0
    until cli "$@" | grep -q -e "$wanted"; do
        tries=$((tries + 1))
        [ "$tries" -lt 100 ] || return 1
        sleep 0.1
    done
}

# A certificate for 127.0.0.1 and localhost, and the root it comes from.
make_certificate() {
    "$TOOLS_DIR/bin/python" - "$REDIS_DIR" <<'PYTHON'
import datetime, ipaddress, sys
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

now = datetime.datetime.now(datetime.timezone.utc)

def certificate(name, key, issuer, signer, extensions):
    builder = x509.CertificateBuilder(
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, issuer)]),
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)]),
        key.public_key(), x509.random_serial_number(),
        now - datetime.timedelta(days=1), now + datetime.timedelta(days=2),
    )
    for extension in extensions:
        builder = builder.add_extension(extension, critical=True)
    return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

root, server = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
files = {
    "roots.pem": certificate("test root", root, "test root", root, [x509.BasicConstraints(True, None)]),
    "cert.pem": certificate("localhost", server, "test root", root, [names, x509.BasicConstraints(False, None)]),
    "key.pem": server.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()),
}
for name, content in files.items():
    with open(f"{sys.argv[1]}/{name}", "wb") as file:
        file.write(content)
PYTHON
}

# shellcheck disable=SC2086 # a list of ports
launch_redis() {
    set -- $(free_ports 12)
    [ $# = 12 ] || return 1
    plain=$1 tls=$2 primary=$3 replica=$4 sentinel=$5 valkey=$6
    shift 6
    login="requirepass $redis_password"
    launch "$REDIS_SERVER" plain "port $plain" "$login"
    launch "$VALKEY_SERVER" valkey "port $valkey" "$login"
    launch "$REDIS_SERVER" tls "port 0" "tls-port $tls" "tls-auth-clients no" "tls-ca-cert-file $REDIS_DIR/roots.pem" \
        "tls-cert-file $REDIS_DIR/cert.pem" "tls-key-file $REDIS_DIR/key.pem" \
        "user default off" "user vouchsafe on >$redis_password $REDIS_RIGHTS"
    launch "$REDIS_SERVER" primary "port $primary" "$login" "masterauth $redis_password"
    launch "$REDIS_SERVER" replica "port $replica" "$login" "masterauth $redis_password" \
        "replicaof 127.0.0.1 $primary"
    for node in 1 2 3; do
        eval "port=\$$node bus=\$$((node + 3))"
        launch "$REDIS_SERVER" "cluster-$node" "port $port" "cluster-port $bus" "cluster-enabled yes" "$login" \
            "masterauth $redis_password"
    done
    for port in "$plain" "$valkey" "$primary" "$replica" "$1" "$2" "$3"; do wait_for PONG "$port" ping || return 1; done
    for node in 1 2 3; do
        eval "port=\$$node bus=\$$((node + 3))"
        cli "$port" cluster addslotsrange "$(((node - 1) * 5461 + (node > 1)))" "$((node < 3 ? node * 5461 : 16383))"
        cli "$port" cluster set-config-epoch "$node"
        cli "$1" cluster meet 127.0.0.1 "$port" "$bus"
    done >"$REDIS_DIR/cluster.out"
    wait_for master_link_status:up "$replica" info replication || return 1
    launch "$REDIS_SERVER" sentinel "port $sentinel" "$login" "sentinel monitor main 127.0.0.1 $primary 1" \
        "sentinel auth-pass main $redis_password"
    wait_for "$primary" "$sentinel" sentinel get-master-addr-by-name main || return 1
    for port in "$1" "$2" "$3"; do
        wait_for cluster_state:ok "$port" cluster info && wait_for cluster_known_nodes:3 "$port" cluster info || return 1
    done
    at="redis://:$redis_password@127.0.0.1"
    export VOUCHSAFE_TEST_REDIS_URL="$at:$plain" VOUCHSAFE_TEST_VALKEY_URL="$at:$valkey"
    export VOUCHSAFE_TEST_REDIS_TLS_URL="rediss://vouchsafe:$redis_password@localhost:$tls"
    export VOUCHSAFE_TEST_REDIS_TLS_ROOTS="$REDIS_DIR/roots.pem"
    export VOUCHSAFE_TEST_REDIS_CLUSTER_URL="redis+cluster://:$redis_password@127.0.0.1:$1,127.0.0.1:$2,127.0.0.1:$3"
    at="redis+sentinel://:$redis_password@127.0.0.1"
    export VOUCHSAFE_TEST_REDIS_SENTINEL_URL="$at:$sentinel/main?sentinel_password=$redis_password"
    export VOUCHSAFE_TEST_REDIS_SERVER="$REDIS_SERVER"
}

start_redis() {
    find_redis || die "no Redis server found: run scripts/install.sh test"
    find_valkey || die "no Valkey server found: run scripts/install.sh test"
    redis_password=$(od -An -N16 -tx1 /dev/urandom | tr -d ' \n')
    tries_left=3
    while [ "$tries_left" -gt 0 ]; do
        REDIS_DIR=$(mktemp -d "${TMPDIR:-/tmp}/vouchsafe-redis.XXXXXX")
        if make_certificate && launch_redis; then return 0; fi
        tries_left=$((tries_left - 1))
        [ "$tries_left" != 0 ] || tail -n 5 "$REDIS_DIR"/*/log "$REDIS_DIR"/*/out >&2 || true
        stop_redis
    done
    die "the Redis servers do not start"
}

stop_redis() {
    [ -n "$REDIS_DIR" ] || return 0
    # Nothing here outlives the run, so nobody has to say goodbye.
    for pid in $redis_pids; do kill -s KILL "$pid" 2>/dev/null || true; done
    for pid in $redis_pids; do wait "$pid" 2>/dev/null || true; done
    redis_pids=
    rm -rf "$REDIS_DIR"
    REDIS_DIR=
}
