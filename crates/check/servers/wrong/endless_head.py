"""Hostile: the head of the answer to what is missing has fields without an end."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def serve(self, client):
        answer = self.answer(self.read_head(client))
        try:
            with client:
                client.sendall(answer[:-1] if b" 404 " not in answer else answer.split(b"\r\n\r\n")[0])
                client.sendall(answer[-1:] if b" 404 " not in answer else b"\r\n")
                while b" 404 " in answer:
                    client.sendall(b"X-More: and more\r\n" * 4096)
        except OSError:
            pass


main(Wrong)
