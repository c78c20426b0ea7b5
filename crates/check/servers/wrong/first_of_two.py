"""Wrong: answers the first of several pipelined requests and forgets the others."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from selector import SelectorServer, main


class Wrong(SelectorServer):
    def answer_all(self, client):
        super().answer_all(client)
        first, length = client.output, client.output.find(b"\r\n\r\n") + 4
        if b"HTTP/1.1 " in first[length:]:
            client.output = first[: first.find(b"HTTP/1.1 ", length)]


main(Wrong)
