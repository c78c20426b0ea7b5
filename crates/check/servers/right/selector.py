"""Step 09 in Python: one thread, persistent connections, and the kernel names the ready clients."""

import selectors

from threads import MAX_HEAD, Server, main


class Client:
    def __init__(self, stream):
        self.stream = stream
        self.input = b""
        self.output = b""
        self.is_last = False


class SelectorServer(Server):
    def run(self):
        self.selector = selectors.DefaultSelector()
        self.listener.setblocking(False)
        self.selector.register(self.listener, selectors.EVENT_READ)
        while True:
            for key, _ in self.selector.select():
                if key.data is None:
                    self.accept()
                elif not self.advance(key.data):
                    self.selector.unregister(key.fileobj)
                    key.fileobj.close()

    def accept(self):
        stream, _ = self.listener.accept()
        stream.setblocking(False)
        self.selector.register(stream, selectors.EVENT_READ, Client(stream))

    def advance(self, client):
        """Reads what has come, writes what is owed; false when the connection is over."""
        try:
            if not client.output:
                piece = client.stream.recv(16384)
                if not piece:
                    return False
                client.input += piece
                self.answer_all(client)
            client.output = client.output[client.stream.send(client.output[:1 << 20]) :]
        except BlockingIOError:
            pass
        except OSError:
            return False
        wanted = selectors.EVENT_WRITE if client.output else selectors.EVENT_READ
        self.selector.modify(client.stream, wanted, client)
        return bool(client.output) or not client.is_last

    def answer_all(self, client):
        """Every whole request that has come, in order."""
        while b"\r\n\r\n" in client.input and not client.is_last:
            head, client.input = client.input.split(b"\r\n\r\n", 1)
            client.is_last = b"\r\nconnection: close" in head.lower() or b"HTTP/1.1" not in head
            client.output += self.answer(head + b"\r\n\r\n")
        if len(client.input) > MAX_HEAD:
            client.is_last = True

    def message(self, status, kind, body):
        return super().message(status, kind, body).replace(b"Connection: close\r\n", b"", 1)


if __name__ == "__main__":
    main(SelectorServer)
