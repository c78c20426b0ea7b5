"""Wrong: leaves the connection open after Connection: close."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def serve(self, client):
        client.sendall(self.answer(self.read_head(client)))
        client.recv(1)
        client.recv(1)


main(Wrong)
