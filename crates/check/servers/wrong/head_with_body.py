"""Wrong: answers HEAD as if it were GET."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def answer(self, head):
        return super().answer(head.replace(b"HEAD", b"GET", 1))


main(Wrong)
