"""Wrong: one bad request, and the server is gone."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def answer(self, head):
        if not head.startswith((b"GET /", b"HEAD /")):
            os._exit(3)
        return super().answer(head)


main(Wrong)
