"""Answers as it should, but starts a process that goes out of sight: a session of its own, no parent."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "right"))
from threads import Server, main


class DaemonServer(Server):
    def run(self):
        if os.fork() == 0:
            os.setsid()
            if os.fork() == 0:
                os.execvp("sleep", ["sleep", os.environ["SECONDS_TO_SLEEP"]])
            os._exit(0)
        super().run()


main(DaemonServer)
