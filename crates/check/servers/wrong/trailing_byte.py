"""Wrong: a byte behind every answer that Content-Length does not count."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def answer(self, head):
        return super().answer(head) + b"\n"


main(Wrong)
