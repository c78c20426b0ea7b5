"""Wrong: joins the target to the root as it comes."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def find(self, target):
        return self.root + os.fsdecode(target) + ("index.html" if target.endswith(b"/") else "")


main(Wrong)
