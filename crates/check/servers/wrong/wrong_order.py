"""Wrong: answers pipelined requests from the last to the first."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from selector import SelectorServer, main


class Wrong(SelectorServer):
    def answer_all(self, client):
        heads = client.input.split(b"\r\n\r\n")
        client.input = heads.pop()
        client.is_last = any(b"\r\nConnection: close" in head for head in heads)
        for head in reversed(heads):
            client.output += self.answer(head + b"\r\n\r\n")


main(Wrong)
