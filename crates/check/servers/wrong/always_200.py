"""Wrong: 200 for what is missing."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def message(self, status, kind, body):
        return super().message(status.replace("404 Not Found", "200 OK"), kind, body)


main(Wrong)
