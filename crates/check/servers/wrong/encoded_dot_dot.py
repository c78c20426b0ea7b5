"""Wrong: looks for .. before it decodes."""

import os
import sys
from urllib.parse import unquote_to_bytes

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def find(self, target):
        if b".." in target:
            return "/nothing/is/here"
        path = os.fsdecode(unquote_to_bytes(target))
        return self.root + path + ("index.html" if path.endswith("/") else "")


main(Wrong)
