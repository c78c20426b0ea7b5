"""Hostile: what is missing has a length that no machine holds."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def message(self, status, kind, body):
        message = super().message(status, kind, body)
        huge = b"Content-Length: 18446744073709551615\r\n"
        return message.replace(b"Content-Length: %d\r\n" % len(body), huge) if "404" in status else message


main(Wrong)
