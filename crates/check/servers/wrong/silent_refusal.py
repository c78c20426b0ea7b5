"""Wrong: hangs up on whoever sends no request."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def answer(self, head):
        answer = super().answer(head)
        return b"" if b" 400 " in answer[:20] else answer


main(Wrong)
