"""Wrong: leaves a process behind that has gone out of sight: a session of its own, no parent."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))
from threads import Server, main


class Wrong(Server):
    def run(self):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", "86399"])
            os._exit(0)
        super().run()


main(Wrong)
