"""Hostile: the answer to what is missing comes byte by byte, two of them in a second."""

import os
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def serve(self, client):
        answer = self.answer(self.read_head(client))
        try:
            with client:
                for byte in answer if b" 404 " in answer[:20] else ():
                    client.sendall(bytes([byte]))
                    time.sleep(0.5)
                client.sendall(b"" if b" 404 " in answer[:20] else answer)
        except OSError:
            pass


main(Wrong)
