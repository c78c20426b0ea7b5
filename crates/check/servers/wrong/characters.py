"""Wrong: Content-Length counts characters."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def message(self, status, kind, body):
        if not kind.startswith("text/"):
            return super().message(status, kind, body)
        counted = len(body.decode())
        right, wrong = (f"Content-Length: {length}\r\n".encode() for length in (len(body), counted))
        return super().message(status, kind, body).replace(right, wrong, 1)


main(Wrong)
