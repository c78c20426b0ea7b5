"""Wrong: keeps a descriptor of every client."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    kept = []

    def serve(self, client):
        self.kept.append(os.dup(client.fileno()))
        super().serve(client)


main(Wrong)
