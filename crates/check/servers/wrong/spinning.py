"""Wrong for step 09: asks all the time who is ready."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from selector import SelectorServer, main


class Wrong(SelectorServer):
    def run(self):
        import selectors

        wait = selectors.DefaultSelector.select
        selectors.DefaultSelector.select = lambda selector: wait(selector, 0)
        super().run()


main(Wrong)
