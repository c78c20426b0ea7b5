"""Wrong: knows the demo site by heart."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def answer(self, head):
        return self.message("200 OK", "text/html", b"<h1>Welcome</h1>\n")


main(Wrong)
