"""Step 05 in Python: a thread per connection, with nothing but sockets.

python3 threads.py --port 8080 --root SITE
"""

import argparse
import mimetypes
import os
import re
import socket
import threading
from urllib.parse import unquote_to_bytes

MAX_HEAD = 32 * 1024


class Server:
    """One request, one answer. The wrong servers change one method each."""

    def __init__(self, port, root):
        self.root = os.path.realpath(root)
        self.listener = socket.create_server(("127.0.0.1", port), backlog=256)

    def run(self):
        while True:
            client, _ = self.listener.accept()
            self.start(client)

    def start(self, client):
        threading.Thread(target=self.serve, args=(client,), daemon=True).start()

    def serve(self, client):
        try:
            with client:
                head = self.read_head(client)
                if head:
                    client.sendall(self.answer(head))
                    client.shutdown(socket.SHUT_WR)
        except OSError:
            pass  # This client has gone; that is nobody else's business.

    def read_head(self, client):
        head = b""
        while b"\r\n\r\n" not in head and len(head) < MAX_HEAD:
            piece = client.recv(4096)
            if not piece:
                break
            head += piece
        return head

    def answer(self, head):
        """Head and body as one text, so that they leave together."""
        match = re.match(rb"(GET|HEAD) (/[!-~]*) HTTP/1\.[01]\r\n", head)
        if not match or b"\r\n\r\n" not in head:
            return self.message("400 Bad Request", "text/html", b"<h1>Bad request</h1>\n")
        path = self.find(match[2].split(b"?")[0])
        try:
            with open(path, "rb") as file:
                body = file.read()
        except (OSError, ValueError):
            return self.message("404 Not Found", "text/html", b"<h1>Nothing found</h1>\n")
        kind = mimetypes.guess_type(path)[0] or "application/octet-stream"
        message = self.message("200 OK", kind, body)
        return message[: len(message) - len(body)] if match[1] == b"HEAD" else message

    def message(self, status, kind, body):
        head = f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        return head.encode() + b"Connection: close\r\n\r\n" + body

    def find(self, target):
        """The file that a target names; nothing outside the root."""
        path = os.path.join(self.root, os.fsdecode(unquote_to_bytes(target)).lstrip("/"))
        path = os.path.realpath(os.path.join(path, "index.html") if target.endswith(b"/") else path)
        return path if path.startswith(self.root + os.sep) else "/nothing/is/here"


def main(server):
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--root", required=True)
    arguments = parser.parse_args()
    server(arguments.port, arguments.root).run()


if __name__ == "__main__":
    main(Server)
