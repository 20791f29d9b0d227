"""Server, command line and library on one file at once. Arguments: PORT FILE PROGRAM.

The command line is the library in another process: it opens the file, and goes through no socket.
"""

import subprocess
import sys
import threading

import redis

PORT, FILE, PROGRAM = int(sys.argv[1]), sys.argv[2], sys.argv[3]
EACH, PROCESSES = 400, 100


def brasa(*words):
    done = subprocess.run([PROGRAM, "--file", FILE, *words], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout.strip()


client = redis.Redis(port=PORT)
client.flushdb()
client.set("de_la", "servidor")
assert brasa("get", "de_la").strip('"') == "servidor"
brasa("set", "de_ca", "linha")
assert client.get("de_ca") == b"linha"
brasa("hset", "h", "f", "1")
assert client.hget("h", "f") == b"1" and client.type("h") == b"hash"
client.expire("h", 1000)
assert 0 < int(brasa("ttl", "h").split()[-1]) <= 1000


def by_server():
    own = redis.Redis(port=PORT)
    for _ in range(EACH):
        own.incr("contador")


def by_process():
    for _ in range(PROCESSES):
        brasa("incr", "contador")


threads = [threading.Thread(target=work) for work in (by_server, by_server, by_process, by_process)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert int(client.get("contador")) == 2 * EACH + 2 * PROCESSES, client.get("contador")

# A WATCH notices what another process does.
with client.pipeline() as pipe:
    pipe.watch("vigiada")
    brasa("set", "vigiada", "outro")
    pipe.multi()
    pipe.set("vigiada", "eu")
    try:
        pipe.execute()
        raise AssertionError("the transaction has to fail")
    except redis.WatchError:
        pass
brasa("compact")
assert client.get("vigiada") == b"outro" and int(client.get("contador")) == 2 * EACH + 2 * PROCESSES
client.flushdb()
print(f"{2 * EACH} increments by the server and {2 * PROCESSES} by processes, WATCH, compaction")
