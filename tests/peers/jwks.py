"""What both peers share: the arguments, and the choice of the key. Uses no JWT library, so that neither peer leans on the other's."""

import base64
import json
import sys

# The one algorithm that each kind of key may be used with. The token has no say in it.
ALGORITHMS = {("EC", "P-256"): "ES256", ("OKP", "Ed25519"): "EdDSA", ("RSA", None): "RS256"}
PRIVATE_MEMBERS = {"d", "k", "p", "q", "dp", "dq", "qi", "oth"}
# RFC 9068, section 2.2.
REQUIRED_CLAIMS = ["iss", "exp", "aud", "sub", "client_id", "iat", "jti"]
# RFC 9068, section 2.1.
TYP = "at+jwt"


class Refused(Exception):
    """The token, or the key set, is not acceptable."""


def header_of(token):
    """The header, unverified: good for finding the key, and for nothing else."""
    part = token.split(".")[0]
    try:
        return json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except ValueError as error:
        raise Refused(f"unreadable header: {error}") from error


def choose(jwks, token):
    """The key that the token names, and that key's algorithm."""
    for key in jwks["keys"]:
        if leaked := PRIVATE_MEMBERS & key.keys():
            raise Refused(f"the key set holds private members: {sorted(leaked)}")
    header = header_of(token)
    if header.get("typ") != TYP:
        raise Refused(f"typ is {header.get('typ')!r}, not {TYP!r}")
    named = [key for key in jwks["keys"] if key.get("kid") and key["kid"] == header.get("kid")]
    if len(named) != 1:
        raise Refused(f"{len(named)} keys have the kid {header.get('kid')!r}")
    key = named[0]
    if key.get("use", "sig") != "sig":
        raise Refused(f"the key is for {key['use']!r}")
    algorithm = ALGORITHMS.get((key["kty"], key.get("crv")))
    if algorithm is None or key.get("alg", algorithm) != algorithm:
        raise Refused(f"no algorithm for kty {key['kty']!r}, crv {key.get('crv')!r}, alg {key.get('alg')!r}")
    return key, algorithm


def main(verify, refusals):
    """Runs `verify(key, algorithm, token, issuer, audience)`, which returns the claims or raises one of `refusals`.

    Exit status: 0 with the claims on standard output, 1 with the reason on standard error, 2 for wrong usage.
    """
    if len(sys.argv) != 4:
        print(f"usage: {sys.argv[0]} JWKS_FILE ISSUER AUDIENCE < TOKEN", file=sys.stderr)
        sys.exit(2)
    path, issuer, audience = sys.argv[1:]
    with open(path, encoding="utf-8") as file:
        jwks = json.load(file)
    token = sys.stdin.read().strip()
    try:
        key, algorithm = choose(jwks, token)
        claims = verify(key, algorithm, token, issuer, audience)
    except (Refused, *refusals) as error:
        print(f"refused: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)
    json.dump(claims, sys.stdout, sort_keys=True)
    print()
