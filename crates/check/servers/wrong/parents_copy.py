"""Wrong: the parent keeps its copy of every connection."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from fork import ForkServer, main


class Wrong(ForkServer):
    kept = []

    def start(self, client):
        self.kept.append(client.dup())
        super().start(client)


main(Wrong)
