"""Wrong: a line end behind every page, as print would add, and counted in."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def message(self, status, kind, body):
        return super().message(status, kind, body + b"\n" if status == "200 OK" else body)


main(Wrong)
