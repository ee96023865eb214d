#!/bin/sh
# Asserts what the small builds must not pull in: a service that embeds the verifier shall not compile a database driver.
set -eu
cd "$(dirname "$0")/.."
. scripts/lib.sh
find_cargo || die "cargo is not in PATH"

# tree FEATURE: one line for each crate of that build: its name, then its features.
tree() {
    cargo tree --locked -e normal --target all --no-default-features --features "$1" --prefix none -f '{lib} {f}' |
        sed 's/ (\*)$//' | sort -u
}

failed=

# refuse FEATURE PATTERN: fails on each crate, with its features, that matches the extended regular expression.
refuse() {
    found=$(printf '%s\n' "$crates" | grep -E "$2" || true)
    [ -z "$found" ] && return 0
    printf 'the feature %s pulls in what it must not:\n%s\n' "$1" "$found" >&2
    failed=1
}

check() {
    feature=$1
    shift
    crates=$(tree "$feature")
    # A tree that lists nothing would pass every check.
    printf '%s\n' "$crates" | grep -q '^vouchsafe ' || die "cargo tree shows no vouchsafe for the feature $feature"
    for pattern in "$@"; do refuse "$feature" "$pattern"; done
    echo "feature $feature: $(printf '%s\n' "$crates" | cut -d' ' -f1 | sort -u | wc -l) crates"
}

stores='^(sqlx[a-z_-]*|libsqlite3[-_]sys|redis|argon2|bcrypt|scrypt) '
check verifier "$stores" '^axum[a-z_-]* ' '^tonic (.*,)?(server|router)(,|$)'
check sidecar "$stores"
[ -z "$failed" ]
