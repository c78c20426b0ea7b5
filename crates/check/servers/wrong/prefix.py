"""Wrong: takes every path that begins with the same letters for one in the folder."""

import os
import sys
from urllib.parse import unquote_to_bytes

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def find(self, target):
        path = os.path.normpath(self.root + os.fsdecode(unquote_to_bytes(target)))
        path = os.path.join(path, "index.html") if target.endswith(b"/") else path
        return path if path.startswith(self.root) else "/nothing/is/here"


main(Wrong)
