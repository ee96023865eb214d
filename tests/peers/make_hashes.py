"""Hashes a password as the systems do that accounts are imported from. One line each, what made it and the hash.

make_hashes.py < PASSWORD

The password is taken byte for byte. Costs are low: what is tested is the format.
"""

import sys

import argon2
import bcrypt
import django
from django.conf import settings
from django.contrib.auth import hashers
from passlib import hash as passlib


class Cheap:
    """Django's hashers at less than Django's cost."""

    class Pbkdf2(hashers.PBKDF2PasswordHasher):
        iterations = 1_000

    class Pbkdf2Sha1(hashers.PBKDF2SHA1PasswordHasher):
        iterations = 1_000

    class Argon2(hashers.Argon2PasswordHasher):
        memory_cost = 1_024

    class BcryptSha256(hashers.BCryptSHA256PasswordHasher):
        rounds = 4

    class Bcrypt(hashers.BCryptPasswordHasher):
        rounds = 4

    class Scrypt(hashers.ScryptPasswordHasher):
        work_factor = 2**10


def with_django(password):
    for name, hasher in vars(Cheap).items():
        if isinstance(hasher, type):
            hasher = hasher()
            encoded = hasher.encode(password, hasher.salt())
            assert hasher.verify(password, encoded), name
            yield f"django {hasher.algorithm}", encoded


def with_bcrypt(password):
    for version in [b"2a", b"2b", b"2y"]:
        salt = bcrypt.gensalt(4).replace(b"$2b$", b"$%s$" % version)
        yield f"bcrypt {version.decode()}", bcrypt.hashpw(password.encode(), salt).decode()


def with_argon2(password):
    for kind in argon2.Type:
        hasher = argon2.PasswordHasher(time_cost=2, memory_cost=1_024, parallelism=2, type=kind)
        yield f"argon2-cffi {kind.name}", hasher.hash(password)


def with_passlib(password):
    yield "passlib pbkdf2-sha1", passlib.pbkdf2_sha1.using(rounds=1_000).hash(password)
    yield "passlib pbkdf2-sha256", passlib.pbkdf2_sha256.using(rounds=1_000).hash(password)
    yield "passlib pbkdf2-sha512", passlib.pbkdf2_sha512.using(rounds=1_000).hash(password)
    yield "passlib scrypt", passlib.scrypt.using(rounds=10).hash(password)


if __name__ == "__main__":
    settings.configure()
    django.setup()
    given = sys.stdin.buffer.read().decode()
    for maker in [with_django, with_bcrypt, with_argon2, with_passlib]:
        for made_by, encoded in maker(given):
            print(made_by, encoded, sep="\t")
