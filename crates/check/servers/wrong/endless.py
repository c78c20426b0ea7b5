"""Hostile: an answer without a length, and without an end."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def serve(self, client):
        self.read_head(client)
        client.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n\r\n")
        try:
            while True:
                client.sendall(b"more and more\n" * 4096)
        except OSError:
            client.close()


main(Wrong)
