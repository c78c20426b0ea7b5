"""A server of one page: `check step02` passes. README.md says how it grows.

python3 server.py --port 8080
"""

import argparse
import re
import socket


def read_head(client):
    head = b""
    while b"\r\n\r\n" not in head and len(head) < 16384:
        piece = client.recv(4096)
        if not piece:
            break
        head += piece
    return head


def answer(head):
    line = re.match(rb"GET (/[!-~]*) HTTP/1\.[01]\r\n", head)
    if not line:
        return message("400 Bad Request", b"<h1>This is no request</h1>\n")
    if line[1] != b"/":
        return message("404 Not Found", b"<h1>Nothing found</h1>\n")
    return message("200 OK", b"<h1>Hello from my own server!</h1>\n")


def message(status, page):
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/html\r\nContent-Length: {len(page)}\r\n"
    return head.encode() + b"Connection: close\r\n\r\n" + page


parser = argparse.ArgumentParser()
parser.add_argument("--port", type=int, default=8080)
parser.add_argument("--root", help="the folder to serve, from step 03 on")
options = parser.parse_args()
listener = socket.create_server(("127.0.0.1", options.port), backlog=256)
while True:
    client, _ = listener.accept()
    try:
        with client:
            head = read_head(client)
            if head:
                client.sendall(answer(head))
    except OSError:
        pass  # This client has gone; that is nobody else's business.
