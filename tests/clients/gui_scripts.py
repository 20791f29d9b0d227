"""What two desktop programs send, as RESP with the replies that they need: gui_scripts.py PORT."""

import socket
import sys


class Client:
    def __init__(self, port):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")

    def say(self, *words):
        words = [word if isinstance(word, bytes) else str(word).encode() for word in words]
        parts = [b"*%d\r\n" % len(words)] + [b"$%d\r\n%s\r\n" % (len(word), word) for word in words]
        self.socket.sendall(b"".join(parts))
        return self.reply()

    def reply(self):
        line = self.file.readline()
        kind, rest = line[:1], line[1:-2]
        if kind in b"$=":
            count = int(rest)
            return None if count < 0 else self.file.read(count + 2)[:count]
        if kind in b"*>":
            return None if int(rest) < 0 else [self.reply() for _ in range(int(rest))]
        if kind == b"%":
            return {self.reply(): self.reply() for _ in range(int(rest))}
        if kind == b"_":
            return None
        if kind == b":":
            return int(rest)
        if kind == b"-":
            raise RuntimeError(rest.decode())
        return rest


def section(info, name):
    assert b"# " + name in info, info
    part = info.split(b"# " + name)[1].split(b"\r\n\r\n")[0]
    return dict(line.split(b":", 1) for line in part.split(b"\r\n") if b":" in line)


def walk(client, *options):
    cursor, found = b"0", []
    while True:
        cursor, page = client.say("SCAN", cursor, *options)
        found += page
        if cursor == b"0":
            return found


def another_redis_desktop_manager(port):
    client = Client(port)
    info = client.say("INFO")
    version = section(info, b"Server")[b"redis_version"].split(b".")
    assert [int(part) for part in version[:2]] >= [7, 4], "no deadlines of fields are shown"
    keyspace = section(info, b"Keyspace")[b"db0"]
    assert keyspace.startswith(b"keys=3,expires=1,avg_ttl="), keyspace
    assert client.say("CONFIG", "GET", "databases") == [b"databases", b"16"]
    assert client.say("SELECT", 0) == b"OK" and client.say("PING") == b"PONG"
    assert sorted(walk(client, "MATCH", "*", "COUNT", 2)) == [b"chave_1", b"curta", b"meu_hash"]
    assert client.say("EXISTS", "chave_1") == 1 and client.say("TYPE", "meu_hash") == b"hash"
    assert client.say("TTL", "chave_1") == -1 and 0 < client.say("TTL", "curta") <= 1000
    assert client.say("HLEN", "meu_hash") == 2
    cursor, fields = client.say("HSCAN", "meu_hash", 0, "MATCH", "*", "COUNT", 100)
    assert cursor == b"0" and sorted(fields) == [b"Recife", b"city", b"nome", b"thailan"]
    assert client.say("HSET", "meu_hash", "novo", "valor") == 1 and client.say("HDEL", "meu_hash", "novo") == 1
    assert client.say("MEMORY", "USAGE", "chave_1") > 0 and client.say("SLOWLOG", "GET", 10) == []
    payload, ttl = client.say("DUMP", "meu_hash"), client.say("PTTL", "meu_hash")
    assert client.say("RESTORE", "copia", max(ttl, 0), payload, "REPLACE") == b"OK"
    assert client.say("HGET", "copia", "nome") == b"thailan" and client.say("DEL", "copia") == 1
    monitor = Client(port)
    assert monitor.say("MONITOR") == b"OK"
    client.say("GET", "chave_1")
    assert b'"GET" "chave_1"' in monitor.reply()


def redis_insight(port):
    client = Client(port)
    assert client.say("HELLO", 3)[b"proto"] == 3
    client.say("INFO")
    assert client.say("COMMAND", "INFO", "get")[0][0] == b"get"
    assert client.say("MODULE", "LIST") == []
    assert client.say("CONFIG", "GET", "databases") == {b"databases": b"16"}
    assert b"id=" in client.say("CLIENT", "LIST")
    assert client.say("DBSIZE") == 3
    assert walk(client, "TYPE", "hash", "COUNT", 100) == [b"meu_hash"]
    assert client.say("TYPE", "chave_1") == b"string" and client.say("TTL", "chave_1") == -1
    assert client.say("MEMORY", "USAGE", "meu_hash", "SAMPLES", 0) > 0
    assert client.say("GETRANGE", "chave_1", 0, 4) == b"Relou"
    assert len(client.say("HSCAN", "meu_hash", 0, "COUNT", 10)[1]) == 4
    assert client.say("HPEXPIRE", "meu_hash", 90_000, "FIELDS", 1, "city") == [1]
    assert client.say("HTTL", "meu_hash", "FIELDS", 2, "city", "nome") == [90, -1]


PORT = int(sys.argv[1])
setup = Client(PORT)
setup.say("FLUSHALL")
setup.say("SET", "chave_1", "Relou Uourdi")
setup.say("SET", "curta", "vida", "EX", 1000)
setup.say("HSET", "meu_hash", "nome", "thailan", "city", "Recife")
another_redis_desktop_manager(PORT)
redis_insight(PORT)
print("Another Redis Desktop Manager, RedisInsight")
