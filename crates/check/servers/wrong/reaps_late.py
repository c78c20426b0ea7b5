"""Wrong for exercise 04b: asks for its ended children only when the next client comes."""

import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../right"))

from fork import ForkServer, main


class Wrong(ForkServer):
    pass


main(Wrong)
