"""Wrong for exercise 04b: is woken when a child ends, and never empties what has woken it."""

import os
import select
import signal
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from fork import ForkServer, main


class Wrong(ForkServer):
    def run(self):
        ended, tell = os.pipe()
        os.set_blocking(tell, False)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        signal.set_wakeup_fd(tell, warn_on_full_buffer=False)
        while True:
            ready, _, _ = select.select([self.listener, ended], [], [])
            if self.listener in ready:
                self.start(self.listener.accept()[0])
            try:
                while os.waitpid(-1, os.WNOHANG)[0]:
                    pass
            except ChildProcessError:
                pass


main(Wrong)
