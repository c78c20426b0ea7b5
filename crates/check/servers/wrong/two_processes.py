"""Wrong for step 09: two processes, each with a listening socket of its own on the port."""

import os
import sys
import socket

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from selector import SelectorServer, main


class Wrong(SelectorServer):
    def __init__(self, port, root):
        super().__init__(0, root)
        self.listener.close()
        os.fork()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=256, reuse_port=True)


main(Wrong)
