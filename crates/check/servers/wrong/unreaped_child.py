"""Wrong: never asks how a child has ended."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from fork import ForkServer, main


class Wrong(ForkServer):
    def start(self, client):
        if os.fork() == 0:
            self.serve(client)
            os._exit(0)
        client.close()


main(Wrong)
