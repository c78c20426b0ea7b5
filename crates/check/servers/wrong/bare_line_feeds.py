"""Wrong: lines end with a line feed alone."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def message(self, status, kind, body):
        head, rest = super().message(status, kind, body).split(b"\r\n\r\n", 1)
        return head.replace(b"\r\n", b"\n") + b"\n\n" + rest


main(Wrong)
