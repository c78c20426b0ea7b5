"""Wrong: Content-Length is one too small."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def message(self, status, kind, body):
        right, wrong = (f"Content-Length: {length}\r\n".encode() for length in (len(body), len(body) - 1))
        return super().message(status, kind, body).replace(right, wrong, 1)


main(Wrong)
