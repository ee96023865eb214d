"""Verifies an access token as a service using PyJWT would: verify_pyjwt.py JWKS_FILE ISSUER AUDIENCE < TOKEN"""

import jwt
from jwks import REQUIRED_CLAIMS, main


def verify(key, algorithm, token, issuer, audience):
    return jwt.decode(
        token,
        jwt.PyJWK(key, algorithm=algorithm),
        algorithms=[algorithm],
        issuer=issuer,
        audience=audience,
        leeway=0,
        options={"require": REQUIRED_CLAIMS},
    )


if __name__ == "__main__":
    main(verify, [jwt.PyJWTError])
