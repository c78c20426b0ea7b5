"""Wrong: writes once and believes that all of it went out."""

import os
import socket
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def serve(self, client):
        client.settimeout(10)  # Which makes the socket one that does not block.
        with client:
            head = self.read_head(client)
            if head:
                client.send(self.answer(head))
                client.shutdown(socket.SHUT_WR)


main(Wrong)
