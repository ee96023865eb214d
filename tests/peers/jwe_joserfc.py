"""Encrypts or decrypts an access token with joserfc: jwe_joserfc.py encrypt|decrypt JWK_FILE < TOKEN

Exit status: 0 with the token on standard output, 1 with the reason on standard error, 2 for wrong usage.
"""

import json
import sys

from joserfc import jwe
from joserfc.errors import JoseError
from joserfc.jwk import import_key

CONTENT = "A256GCM"


class Refused(Exception):
    """The token is not what it should be."""


def encrypt(jwk, token):
    header = {"alg": jwk["alg"], "enc": CONTENT, "cty": "JWT", "kid": jwk["kid"]}
    return jwe.encrypt_compact(header, token.encode(), import_key(jwk), algorithms=[jwk["alg"], CONTENT])


def decrypt(jwk, token):
    opened = jwe.decrypt_compact(token.encode(), import_key(jwk), algorithms=[jwk["alg"], CONTENT])
    if opened.headers().get("cty") != "JWT" or opened.headers().get("kid") != jwk["kid"]:
        raise Refused(f"the header says {opened.headers()}")
    return opened.plaintext.decode()


def main():
    verb = {"encrypt": encrypt, "decrypt": decrypt}.get(sys.argv[1] if len(sys.argv) == 3 else "")
    if verb is None:
        print(__doc__, file=sys.stderr)
        sys.exit(2)
    with open(sys.argv[2], encoding="utf-8") as file:
        jwk = json.load(file)
    try:
        print(verb(jwk, sys.stdin.read().strip()))
    except (Refused, JoseError, ValueError) as error:
        print(f"refused: {type(error).__name__}: {error}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()
