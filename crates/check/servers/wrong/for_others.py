"""Wrong: listens where nobody looks."""

import os
import sys
import socket

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def __init__(self, port, root):
        super().__init__(0, root)
        self.listener = socket.create_server(("127.0.0.2", port))


main(Wrong)
