"""Step 04 in Python: a process per connection. The parent closes its copy and reaps."""

import os

from threads import Server, main


class ForkServer(Server):
    def start(self, client):
        while True:
            try:
                ended, _ = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if not ended:
                break
        if os.fork() == 0:
            self.listener.close()
            self.serve(client)
            os._exit(0)
        client.close()


if __name__ == "__main__":
    main(ForkServer)
