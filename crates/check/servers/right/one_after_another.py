"""Step 03 in Python: one client after another."""

from threads import Server, main


class SerialServer(Server):
    def start(self, client):
        self.serve(client)


if __name__ == "__main__":
    main(SerialServer)
