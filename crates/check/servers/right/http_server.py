"""Step 05 with Python's own http.server, which does the same: a thread per connection."""

import functools
import sys
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

_, _, port, _, root = sys.argv
handler = functools.partial(SimpleHTTPRequestHandler, directory=root)
ThreadingHTTPServer(("127.0.0.1", int(port)), handler).serve_forever()
