#!/usr/bin/env python3
"""Makes the list of common passwords that the program carries, from the source distribution of Django.

    pip download --no-deps --no-binary :all: django==5.2
    python3 scripts/make-blocklist.py Django-5.2.tar.gz

Says what the result should be if it is the same source: the output is a function of the input alone.
"""

import gzip
import hashlib
import pathlib
import sys
import tarfile
import unicodedata

SOURCE_SHA256 = "1a47f7a7a3d43ce64570d350e008d2949abe8c7e21737b351b6a1611277c6d89"
TARGET = pathlib.Path(__file__).resolve().parent.parent / "src/domain/password_policy/blocklist"

# Shorter ones could only be a small part of a password that is long enough.
LEAST = 4


def member(archive, name):
    return next(archive.extractfile(m).read() for m in archive.getmembers() if m.name.partition("/")[2] == name)


def fold(password):
    """As `password_policy::fold` does: compare there before changing it here."""
    return unicodedata.normalize("NFC", password).lower()


def is_fit(password):
    # The source has passwords that were damaged on their way through other encodings: nobody types them.
    return len(password) >= LEAST and "&#" not in password and "\u043f\u0457\u0455" not in password


def main(path):
    source = pathlib.Path(path)
    digest = hashlib.sha256(source.read_bytes()).hexdigest()
    if digest != SOURCE_SHA256:
        print(f"another source than the list here was made from: its SHA-256 is {digest}", file=sys.stderr)
    with tarfile.open(source) as archive:
        common = gzip.decompress(member(archive, "django/contrib/auth/common-passwords.txt.gz")).decode()
        licence = member(archive, "LICENSE")
    words = {fold(line.strip()) for line in common.splitlines()}
    # In the order of bytes, for a binary search.
    kept = sorted((word for word in words if is_fit(word)), key=str.encode)
    TARGET.mkdir(parents=True, exist_ok=True)
    (TARGET / "common-passwords.txt").write_bytes("".join(f"{word}\n" for word in kept).encode())
    (TARGET / "LICENSE-django").write_bytes(licence)
    print(f"{len(kept)} passwords")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    main(sys.argv[1])
