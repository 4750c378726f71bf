"""A receiver of Ratchet's alerts: checks that a message is ours and new, and prints it. Needs Python only.

    SECRET=whsec_... python docs/examples/webhook.py 8000

and serve with RATCHET_ALERT_WEBHOOKS='["http://127.0.0.1:8000/"]' and the same secret in RATCHET_ALERT_SECRET.
"""

import base64
import hashlib
import hmac
import json
import os
import sys
import time
from collections.abc import Mapping
from http.server import BaseHTTPRequestHandler, HTTPServer

TOLERANCE = 300
"""Seconds that a message may be old: else whoever overheard one could send it again later."""


def is_ours(headers: Mapping[str, str], body: bytes, secret: str, now: float) -> bool:
    """Whether the message was signed with the secret, lately."""
    sent = headers["webhook-timestamp"]
    if abs(now - float(sent)) > TOLERANCE:
        return False
    key = base64.b64decode(secret.removeprefix("whsec_"))
    signed = f"{headers['webhook-id']}.{sent}.".encode() + body
    wanted = "v1," + base64.b64encode(hmac.digest(key, signed, hashlib.sha256)).decode()
    return any(hmac.compare_digest(wanted, each) for each in headers["webhook-signature"].split(" "))


class Receiver(BaseHTTPRequestHandler):
    """Answers 204 to each message of ours; one that was seen before is not printed again."""

    seen: set[str] = set()  # noqa: RUF012 - a real one keeps this in its database

    def do_POST(self) -> None:
        """One message."""
        body = self.rfile.read(int(self.headers["content-length"]))
        message_id = self.headers.get("webhook-id", "")
        try:
            ours = is_ours(self.headers, body, os.environ["SECRET"], time.time())  # type: ignore[arg-type]
        except (AttributeError, TypeError, ValueError):  # a header is missing, or no number
            ours = False
        if ours and message_id not in self.seen:
            self.seen.add(message_id)
            alert = json.loads(body)["data"]
            print(f"{alert['state']:<9} {alert['rule']} {alert['subject']}: {alert['reason']}")
        self.send_response(204 if ours else 401)
        self.end_headers()


if __name__ == "__main__":
    HTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver).serve_forever()
