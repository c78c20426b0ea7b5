"""Wrong: everything is text/plain."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def message(self, status, kind, body):
        return super().message(status, "text/plain", body)


main(Wrong)
