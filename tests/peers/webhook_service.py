"""A web service that messages are handed to. It checks each call as docs/MESSAGES.md says, and shows it as a line of JSON.

The first line says on which port of this machine it listens. It answers 400 if the signature is not good; for messages to
refused@... 422, and 503 to the first two calls for those to later@...
"""

import base64
import hashlib
import hmac
import json
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

SECRET = base64.b64decode(sys.argv[1].removeprefix("whsec_"))
CALLS = {}
PRINTING = threading.Lock()


def is_genuine(headers, body, secret, now):
    signed = f"{headers['webhook-id']}.{headers['webhook-timestamp']}.".encode() + body
    expected = base64.b64encode(hmac.new(secret, signed, hashlib.sha256).digest()).decode()
    signatures = [part[3:] for part in headers["webhook-signature"].split() if part.startswith("v1,")]
    is_new = abs(now - int(headers["webhook-timestamp"])) <= 300
    return is_new and any(hmac.compare_digest(expected, signature) for signature in signatures)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        now = time.time()
        message = json.loads(body)
        genuine = is_genuine(self.headers, body, SECRET, now)
        calls = CALLS[message["id"]] = CALLS.get(message["id"], 0) + 1
        status = 204
        if not genuine:
            status = 400
        elif message["to"].startswith("refused@"):
            status = 422
        elif message["to"].startswith("later@") and calls < 3:
            status = 503
        shown = {
            "status": status,
            "genuine": genuine,
            "genuine_if_altered": is_genuine(self.headers, body.replace(b"expire_time", b"expire_tim3"), SECRET, now),
            "genuine_by_another_secret": is_genuine(self.headers, body, b"another secret of 24 byte", now),
            "genuine_an_hour_later": is_genuine(self.headers, body, SECRET, now + 3600),
            "headers": {name.lower(): value for name, value in self.headers.items()},
            "path": self.path,
            "message": message,
        }
        with PRINTING:
            print(json.dumps(shown), flush=True)
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args):
        pass


server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
print(json.dumps({"port": server.server_address[1]}), flush=True)
server.serve_forever()
