"""Verifies an access token as a service using joserfc would: verify_joserfc.py JWKS_FILE ISSUER AUDIENCE < TOKEN"""

import warnings

from joserfc import jwt
from joserfc.errors import JoseError, SecurityWarning
from joserfc.jwk import import_key
from jwks import REQUIRED_CLAIMS, main

# joserfc would rather see the newer name `Ed25519`; RFC 8037's `EdDSA` is what today's meshes know.
warnings.simplefilter("ignore", SecurityWarning)


def verify(key, algorithm, token, issuer, audience):
    decoded = jwt.decode(token, import_key(key), algorithms=[algorithm])
    expected = {name: {"essential": True} for name in REQUIRED_CLAIMS}
    expected["iss"]["value"] = issuer
    expected["aud"]["value"] = audience
    jwt.JWTClaimsRegistry(leeway=0, **expected).validate(decoded.claims)
    return decoded.claims


if __name__ == "__main__":
    main(verify, [JoseError, ValueError])
