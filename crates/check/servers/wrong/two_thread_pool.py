"""Wrong: a pool of two threads. Two slow clients, and everybody waits."""

import os
import sys
import threading

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def run(self):
        worker = threading.Thread(target=super().run, daemon=True)
        worker.start()
        super().run()

    def start(self, client):
        self.serve(client)


main(Wrong)
