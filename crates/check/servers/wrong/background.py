"""Wrong: goes into the background."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from threads import Server, main


class Wrong(Server):
    def run(self):
        if os.fork():
            os._exit(0)
        os.setsid()
        super().run()


main(Wrong)
