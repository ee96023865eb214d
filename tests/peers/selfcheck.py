"""A peer that accepts everything proves nothing: each must accept a good token, and refuse every bad one here.

The tokens are signed with `cryptography` alone, so that a bad one can be made at all.
"""

import base64
import hashlib
import hmac
import json
import pathlib
import subprocess
import sys
import tempfile
import time
import unittest

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

HERE = pathlib.Path(__file__).resolve().parent
PEERS = ["verify_pyjwt.py", "verify_joserfc.py"]
ISSUER = "https://id.example"
AUDIENCE = "orders"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value, length):
    return b64(value.to_bytes(length, "big"))


class Es256:
    alg = "ES256"

    def __init__(self):
        self.key = ec.generate_private_key(ec.SECP256R1())

    def jwk(self):
        public = self.key.public_key().public_numbers()
        return {"kty": "EC", "crv": "P-256", "x": number(public.x, 32), "y": number(public.y, 32)}

    def sign(self, data):
        r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
        return r.to_bytes(32, "big") + s.to_bytes(32, "big")


class EdDsa:
    alg = "EdDSA"

    def __init__(self):
        self.key = ed25519.Ed25519PrivateKey.generate()

    def raw(self):
        return self.key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)

    def jwk(self):
        return {"kty": "OKP", "crv": "Ed25519", "x": b64(self.raw())}

    def sign(self, data):
        return self.key.sign(data)


class Rs256:
    alg = "RS256"

    def __init__(self):
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def jwk(self):
        public = self.key.public_key().public_numbers()
        return {"kty": "RSA", "n": number(public.n, 256), "e": number(public.e, 3)}

    def sign(self, data):
        return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())


KINDS = [Es256, EdDsa, Rs256]


def claims(**changes):
    now = int(time.time())
    all_claims = {
        "iss": ISSUER,
        "sub": "user-1",
        "aud": [AUDIENCE],
        "client_id": "web",
        "jti": "jti-1",
        "iat": now,
        "exp": now + 60,
        **changes,
    }
    return {name: value for name, value in all_claims.items() if value is not None}


def token(signer, body, **header_changes):
    header = {"alg": signer.alg, "typ": "at+jwt", "kid": "k1", **header_changes}
    header = {name: value for name, value in header.items() if value is not None}
    data = f"{b64(json.dumps(header).encode())}.{b64(json.dumps(body).encode())}"
    return f"{data}.{b64(signer.sign(data.encode()))}"


class Peers(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.signers = [kind() for kind in KINDS]

    def answers(self, keys, text):
        """Each peer's name and finished process for this token."""
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder, "jwks.json")
            path.write_text(json.dumps({"keys": keys}), encoding="utf-8")
            for peer in PEERS:
                command = [sys.executable, HERE / peer, path, ISSUER, AUDIENCE]
                yield peer, subprocess.run(command, input=text, capture_output=True, text=True, check=False)

    def jwk(self, signer, **changes):
        return {**signer.jwk(), "kid": "k1", "use": "sig", "alg": signer.alg, **changes}

    def refused(self, keys, text):
        for peer, answer in self.answers(keys, text):
            with self.subTest(peer=peer):
                self.assertEqual((answer.returncode, answer.stdout), (1, ""), answer.stderr)
                self.assertTrue(answer.stderr.startswith("refused: "), answer.stderr)

    def test_good_tokens_are_accepted(self):
        for signer in self.signers:
            body = claims()
            for peer, answer in self.answers([self.jwk(signer)], token(signer, body) + "\n"):
                with self.subTest(peer=peer, alg=signer.alg):
                    self.assertEqual((answer.returncode, answer.stderr), (0, ""))
                    self.assertEqual(json.loads(answer.stdout), body)

    def test_another_key_of_the_same_name_is_refused(self):
        for kind, signer in zip(KINDS, self.signers):
            with self.subTest(alg=signer.alg):
                self.refused([self.jwk(kind())], token(signer, claims()))

    def test_changed_claims_are_refused(self):
        signer = self.signers[0]
        header, _, signature = token(signer, claims()).split(".")
        self.refused([self.jwk(signer)], f"{header}.{b64(json.dumps(claims(sub='root')).encode())}.{signature}")

    def test_every_claim_is_required_and_checked(self):
        signer = self.signers[0]
        now = int(time.time())
        bad = [{name: None} for name in ["iss", "aud", "exp", "sub", "client_id", "iat", "jti"]]
        bad += [{"iss": ISSUER + "/"}, {"aud": ["other"]}, {"exp": now - 1}, {"exp": "soon"}, {"nbf": now + 60}]
        for change in bad:
            with self.subTest(change=change):
                self.refused([self.jwk(signer)], token(signer, claims(**change)))

    def test_the_header_decides_nothing(self):
        signer = self.signers[0]
        for change in [{"typ": "JWT"}, {"typ": None}, {"kid": "k2"}, {"kid": None}, {"alg": "EdDSA"}, {"crit": ["x"], "x": 1}]:
            with self.subTest(change=change):
                self.refused([self.jwk(signer)], token(signer, claims(), **change))

    def test_no_signature_and_symmetric_ones_are_refused(self):
        signer = self.signers[1]

        class Unsigned:
            alg = "none"

            def sign(self, _data):
                return b""

        class PublicKeyAsSecret:
            alg = "HS256"

            def sign(self, data):
                return hmac.digest(signer.raw(), data, hashlib.sha256)

        for forger in [Unsigned(), PublicKeyAsSecret()]:
            with self.subTest(alg=forger.alg):
                self.refused([self.jwk(signer)], token(forger, claims()))

    def test_a_key_set_with_private_members_or_doubles_is_refused(self):
        signer = self.signers[1]
        text = token(signer, claims())
        self.refused([self.jwk(signer, d="AAAA")], text)
        self.refused([self.jwk(signer), self.jwk(EdDsa())], text)
        self.refused([self.jwk(signer, alg="ES256")], text)
        self.refused([self.jwk(signer, use="enc")], text)

    def test_rubbish_is_refused(self):
        for text in ["", "a.b.c", "....", "\x00"]:
            with self.subTest(text=text):
                self.refused([self.jwk(self.signers[0])], text)


if __name__ == "__main__":
    unittest.main()
