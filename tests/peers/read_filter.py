"""Reads a filter of stolen passwords by docs/PASSWORDS.md alone: whether each line of standard input is in it.

    read_filter.py FILTER
"""

import hashlib
import struct
import sys

data = open(sys.argv[1], "rb").read()
magic, version, width, count, zero = struct.unpack(">8sIIQQ", data[:32])
assert (magic, version, width, zero) == (b"VSBREACH", 1, 8, 0), "the header"
assert len(data) == 32 + 8 * count, "the length"
records = [data[at : at + 8] for at in range(32, len(data), 8)]
assert all(a < b for a, b in zip(records, records[1:])), "the order"
known = set(records)
print(count)
for line in sys.stdin.read().splitlines():
    print("yes" if hashlib.sha1(line.encode()).digest()[:8] in known else "no")
