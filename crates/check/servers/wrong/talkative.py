"""Wrong: says in its log why it answers 500, and answers 500."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def find(self, target):
        print("cannot open the file: the moon is full", file=sys.stderr, flush=True)
        return "/nothing/is/here"


main(Wrong)
