"""A thread for each connection, which stays: right for what steps 08 and 09 ask of the wire, in another model."""

from threads import MAX_HEAD, Server, main


class KeepingServer(Server):
    def serve(self, client):
        rest, is_last = b"", False
        try:
            with client:
                while not is_last:
                    while b"\r\n\r\n" not in rest and len(rest) < MAX_HEAD:
                        piece = client.recv(4096)
                        if not piece:
                            return
                        rest += piece
                    head, end, rest = rest.partition(b"\r\n\r\n")
                    is_last = b"\r\nconnection: close" in head.lower() or b"HTTP/1.1" not in head
                    client.sendall(self.answer(head + end))
        except OSError:
            pass

    def message(self, status, kind, body):
        return super().message(status, kind, body).replace(b"Connection: close\r\n", b"", 1)


if __name__ == "__main__":
    main(KeepingServer)
