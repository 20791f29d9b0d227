"""The server is killed under pipelined load: what it has acknowledged is there, and no transaction is half there.

Arguments: the program brasa, and a directory.
"""

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time

from resp import Raw, decode, encode, reply_end

PROGRAM, DIRECTORY = sys.argv[1], sys.argv[2]
ROUNDS, WRITERS, DEPTH = 4, 6, 16


def start(path, when):
    server = subprocess.Popen(
        [PROGRAM, "serve", path, "--port", "0", "--appendfsync", when, "--log", "error"], stdout=subprocess.PIPE, text=True
    )
    line = server.stdout.readline()
    assert "serving " in line, line
    return server, int(line.rsplit(":", 1)[1])


class Writer(threading.Thread):
    """Counts up in its own keys, by SET and by transactions of three keys, as fast as replies come."""

    def __init__(self, port, number, first):
        super().__init__(daemon=True)
        self.connection, self.number = Raw(port), number
        self.next, self.acknowledged = first, first - 1

    def run(self):
        try:
            while True:
                batch = range(self.next, self.next + DEPTH)
                self.next = batch.stop
                self.connection.send(*(words for n in batch for words in self.commands(n)))
                for n in batch:
                    replies = [self.connection.reply() for _ in range(6)]
                    assert replies[0] == b"+OK\r\n" and replies[5] == b"*3\r\n+OK\r\n+OK\r\n+OK\r\n", replies
                    self.acknowledged = n
        except OSError:
            pass

    def commands(self, n):
        me = self.number
        yield "SET", f"log:{me}:{n}", n
        yield ("MULTI",)
        for part in "abc":
            yield "SET", f"part:{me}:{part}", n
        yield ("EXEC",)


def look(port, number, acknowledged, sent):
    connection = Raw(port)
    parts = [connection.value("GET", f"part:{number}:{part}") for part in "abc"]
    assert parts[0] == parts[1] == parts[2], f"half a transaction: {parts}"
    if acknowledged >= 0:
        assert acknowledged <= int(parts[0]) < sent, f"acknowledged {acknowledged}, found {parts}, sent up to {sent}"
    connection.send(*(("GET", f"log:{number}:{n}") for n in range(acknowledged + 1)))
    for n in range(acknowledged + 1):
        found = decode(connection.reply())[0]
        assert found == str(n).encode(), f"log:{number}:{n} was acknowledged, and is {found!r}"
    connection.close()


def rounds(when, randomness):
    path = os.path.join(DIRECTORY, f"kill-{when}.brasa")
    first, total = [0] * WRITERS, 0
    for _ in range(ROUNDS):
        server, port = start(path, when)
        writers = [Writer(port, number, first[number]) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        time.sleep(0.2 + randomness.random() * 0.5)
        server.send_signal(signal.SIGKILL)
        server.wait()
        for writer in writers:
            writer.join(20)
            assert not writer.is_alive()
        assert any(writer.acknowledged >= first[writer.number] for writer in writers), "nothing was written before the kill"
        server, port = start(path, when)
        for writer in writers:
            look(port, writer.number, writer.acknowledged, writer.next)
            # What was sent and not acknowledged may be there; the next round says it again.
            first[writer.number] = writer.acknowledged + 1
            total += max(writer.acknowledged, 0)
        server.send_signal(signal.SIGTERM)
        assert server.wait(20) == 0, "SIGTERM ends with 0"
    checked = subprocess.run([PROGRAM, "--file", path, "check"], capture_output=True, text=True)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    return sum(first)


seed = int(sys.argv[3]) if len(sys.argv) > 3 else time.time_ns() % 1_000_000
print(f"seed {seed}", flush=True)
random_numbers = random.Random(seed)
written = {when: rounds(when, random_numbers) for when in ("everysec", "always")}
print(f"{ROUNDS} kills each; acknowledged, and there: {written}")
