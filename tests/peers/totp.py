"""An authenticator app that is not ours: pyotp, and readers of QR codes.

totp.py codes SECRET TIME...   prints the code of each moment, a line each
totp.py shows URI STEPS        prints what the app shows so many steps from now, having read this URI
totp.py read < JSON            reads {"svg": text, "png": hex}: prints what the QR codes say, and what pyotp makes of that
"""

import io
import json
import sys
import time

import pyotp
import resvg_py
import zxingcpp
from PIL import Image


def codes(secret, times):
    totp = pyotp.TOTP(secret)
    for time in times:
        print(totp.at(int(time)))


def text_of(png):
    image = Image.open(io.BytesIO(png))
    found = zxingcpp.read_barcodes(image.convert("L"), formats=zxingcpp.BarcodeFormat.QRCode)
    assert len(found) == 1, f"{len(found)} codes"
    return found[0].text


def read():
    asked = json.load(sys.stdin)
    png = bytes.fromhex(asked["png"])
    image = Image.open(io.BytesIO(png))
    said = {
        "svg": text_of(bytes(resvg_py.svg_to_bytes(svg_string=asked["svg"]))),
        "png": text_of(png),
        "mode": image.mode,
        "width": image.width,
    }
    app = pyotp.parse_uri(said["png"])
    said["app"] = {
        "issuer": app.issuer,
        "name": app.name,
        "secret": app.secret,
        "digits": app.digits,
        "interval": app.interval,
        "digest": app.digest().name,
    }
    json.dump(said, sys.stdout)


if __name__ == "__main__":
    if sys.argv[1] == "codes":
        codes(sys.argv[2], sys.argv[3:])
    elif sys.argv[1] == "shows":
        print(pyotp.parse_uri(sys.argv[2]).at(int(time.time()) + 30 * int(sys.argv[3])))
    else:
        read()
