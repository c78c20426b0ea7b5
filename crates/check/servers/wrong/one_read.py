"""Wrong: takes the first read for the request."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def read_head(self, client):
        return client.recv(1024)


main(Wrong)
