#!/bin/sh
# Makes the secrets that compose.yaml mounts, in deploy/secrets, once. What is there is left alone: the master key is not
# replaced like that (docs/OPERATIONS.md says how), because what is in the database is encrypted under it. Back it up, apart from the database.
#
#   make-secrets.sh [FOLDER]
set -eu
umask 077
folder=${1:-$(dirname "$0")/secrets}

random() { od -An -N32 -tx1 /dev/urandom | tr -d ' \n'; }

# The folder keeps others on this machine out. The files can be read by everybody who gets to see them: compose mounts them
# as they are, and the servers in the containers are other users than the one here.
mkdir -p "$folder"
chmod 0700 "$folder"

# put NAME TEXT: makes a file, whole or not at all.
put() {
    printf '%s\n' "$2" >"$folder/.$1"
    chmod 0444 "$folder/.$1"
    mv "$folder/.$1" "$folder/$1"
}

has() { [ -s "$folder/$1" ]; }

# The same as `openssl rand -base64 32`.
has master_key || put master_key "$(head -c 32 /dev/urandom | base64)"

if ! has postgres_password || ! has database_url; then
    password=$(random)
    put postgres_password "$password"
    # Without TLS: the network between these containers is on this machine alone.
    put database_url "postgres://vouchsafe:$password@postgres:5432/vouchsafe?sslmode=disable"
fi

if ! has redis_users || ! has redis_url; then
    password=$(random)
    hash=$(printf '%s' "$password" | sha256sum | cut -d ' ' -f 1)
    # Whoever does not sign in may ask whether it is alive, for the health check.
    put redis_users "user default on nopass sanitize-payload resetchannels -@all +ping
user vouchsafe on sanitize-payload #$hash ~vouchsafe:* resetchannels -@all +get +set +eval +evalsha +xadd +xread +expire"
    put redis_url "redis://vouchsafe:$password@redis:6379/0"
fi
