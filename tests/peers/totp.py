"""What an authenticator app shows that read the otpauth URI of the first argument, so many steps from now as the second says."""

import datetime
import sys

import pyotp

app = pyotp.parse_uri(sys.argv[1])
print(app.at(datetime.datetime.now(), int(sys.argv[2])))
