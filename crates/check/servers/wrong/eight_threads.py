"""Wrong: a pool of eight threads, and the ninth client waits."""

import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def run(self):
        for _ in range(8):
            threading.Thread(target=super().run).start()

    def start(self, client):
        self.serve(client)


main(Wrong)
