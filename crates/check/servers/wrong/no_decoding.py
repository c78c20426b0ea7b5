"""Wrong: looks for the target as it comes, and never decodes it."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def find(self, target):
        return super().find(target.replace(b"%", b"%25"))


main(Wrong)
