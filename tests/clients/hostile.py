"""Ten thousand connections, garbage, and lengths that are lies; meanwhile an honest client is answered.

Arguments: the program brasa, and a directory.
"""

import os
import resource
import signal
import socket
import subprocess
import sys
import time

from resp import Raw

PROGRAM, DIRECTORY = sys.argv[1], sys.argv[2]
CONNECTIONS = 10_000
RESIDENT_LIMIT_KIB = 600 * 1024

soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
need = CONNECTIONS + 500
resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, need), max(hard, need)))

server = subprocess.Popen(
    [PROGRAM, "serve", os.path.join(DIRECTORY, "hostile.brasa"), "--port", "0", "--log", "error", "--maxclients", str(CONNECTIONS + 100)],
    stdout=subprocess.PIPE, text=True,
)


def resident():
    with open(f"/proc/{server.pid}/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS"))


def said(port, sent):
    """What the server answers to some bytes, until it closes or is silent."""
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.settimeout(5)
        answer = b""
        try:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            while received := connection.recv(65536):
                answer += received
        except OSError:
            pass
        return answer


try:
    port = int(server.stdout.readline().rsplit(":", 1)[1])
    honest = Raw(port)
    assert honest.ask("SET", "k", "v") == b"+OK\r\n"
    for sent in (
        os.urandom(1 << 20), b"\0" * (1 << 20), b"*1\r\n$9223372036854775808\r\n", b"*1\r\n$9223372036854775807\r\n", b"*1000000\r\n", b"*2147483648\r\n",
        b"*1\r\n$-5\r\n", b"*-2147483649\r\n", b"*3\r\n$3\r\nSET\r\n$1\r\nk\r\n", b"*1\r\n+PING\r\n", b"x" * 100_000, b"$" * 1000,
    ):
        answer = said(port, sent)
        assert answer == b"" or answer.startswith(b"-ERR"), (sent[:30], answer[:100])
        assert honest.ask("GET", "k") == b"$1\r\nv\r\n", sent[:30]
    for request in (b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\nSET k evil\r\n", b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"):
        assert b"HTTP" not in said(port, request)
        assert honest.ask("GET", "k") == b"$1\r\nv\r\n"
    before = resident()
    crowd = []
    for number in range(CONNECTIONS):
        # More sources than one, since a source has only so many ports.
        connection = socket.socket()
        connection.bind((f"127.0.0.{2 + number % 4}", 0))
        connection.connect(("127.0.0.1", port))
        # Half of them say half a command.
        if number % 2:
            connection.send(b"*3\r\n$3\r\nSET\r\n$100000000\r\n")
        crowd.append(connection)
    assert honest.ask("GET", "k") == b"$1\r\nv\r\n"
    for connection in crowd[::1000]:
        connection.send(b"*1\r\n$4\r\nPING\r\n")
        connection.settimeout(20)
        assert connection.recv(100) == b"+PONG\r\n"
    crowded = resident()
    assert crowded < RESIDENT_LIMIT_KIB, f"{crowded} KiB with {CONNECTIONS} connections"
    for connection in crowd:
        connection.close()
    end = time.monotonic() + 30
    while (clients := honest.value("INFO", "clients").decode().split("connected_clients:")[1].split()[0]) != "1":
        assert time.monotonic() < end, f"{clients} clients are left"
        time.sleep(0.1)
    server.send_signal(signal.SIGTERM)
    assert server.wait(20) == 0
    print(f"{CONNECTIONS} connections: {before} KiB before, {crowded} KiB with them")
finally:
    server.kill()
