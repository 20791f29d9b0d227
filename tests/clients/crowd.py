"""Ten thousand clients at once, each of which is answered: crowd.py PORT."""

import resource
import socket
import sys

COUNT = 10_000
PORT = int(sys.argv[1])
soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
assert hard >= COUNT + 100, f"only {hard} files may be open here"
resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, COUNT + 1000), hard))
clients = []
for number in range(COUNT - 8):
    # The loopback range has addresses enough; one alone has not always as many free ports.
    client = socket.create_connection(("127.0.0.1", PORT), timeout=30, source_address=(f"127.0.0.{2 + number // 2000}", 0))
    clients.append(client)
for client in clients:
    client.sendall(b"*1\r\n$4\r\nPING\r\n")
for client in clients:
    assert client.recv(16) == b"+PONG\r\n"
print(f"{len(clients)} clients at once")
