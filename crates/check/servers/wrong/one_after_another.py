"""Wrong for step 05: one client after another."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def start(self, client):
        self.serve(client)


main(Wrong)
