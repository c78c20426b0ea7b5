"""Wrong: the loop sleeps in the middle of an answer."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from selector import SelectorServer, main


class Wrong(SelectorServer):
    def answer(self, head):
        if 2 < len(self.selector.get_map()) < 12:
            time.sleep(0.4)
        return super().answer(head)


main(Wrong)
