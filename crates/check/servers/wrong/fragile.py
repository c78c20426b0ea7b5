"""Wrong: one bad request, and the server is gone."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))
from threads import Server, main


class Wrong(Server):
    def start(self, client):
        head = self.read_head(client)
        with client:
            client.sendall(self.answer(head)) if head.startswith((b"GET", b"HEAD")) else os._exit(3)


main(Wrong)
