"""Hostile: behind the answer to what is missing come bytes without an end."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def serve(self, client):
        try:
            with client:
                answer = self.answer(self.read_head(client))
                client.sendall(answer)
                while b" 404 " in answer:
                    client.sendall(b"more and more\n" * 4096)
        except OSError:
            pass


main(Wrong)
