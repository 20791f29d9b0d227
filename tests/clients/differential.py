"""Random commands to Redis 7.0.15 and to brasa; what they answer is compared byte for byte.

    differential.py REDIS_PORT BRASA_PORT [--seed N] [--commands N]

Every verb that both know is sent, with good and bad arguments, in both versions of the protocol, within transactions and outside. Deadlines lie
far in the future or in the past, so that time plays no part. Where the order of a reply means nothing it is sorted. Deliberate differences stand
in ALLOWED, each with its reason; one that was never met is reported.
"""

import argparse
import random
import socket
import sys
import time

KEYS = [b"a", b"b", b"c", b"h", b"hash:1", b"str:1", b""]
# What is added to as decimal fractions: nothing else is done to them, since Redis rounds large sums (see ALLOWED).
NUMBER_KEYS = [b"n:1", b"n:2"]
FIELDS = [b"f", b"g", b"nome", b"x" * 70, b""]
VALUES = [
    b"", b"0", b"1", b"-1", b"10", b"3.21", b"1e3", b"abc", b"hello world", b"\x00\xff\x80", b"9223372036854775807",
    b"-9223372036854775808", b" 1", b"01", b"x" * 50, b"Relou Uourdi", "preço".encode(), b"0.1", b"1.5",
]
NUMBERS = [b"0", b"1", b"-1", b"2", b"5", b"7", b"100", b"-100", b"9223372036854775807", b"-9223372036854775808", b"abc", b"", b"1.5", b"99999999999999999999"]
SMALL = [b"0", b"1", b"-1", b"2", b"3", b"7", b"8", b"16", b"-3", b"100", b"abc"]
FLOATS = [b"0.1", b"1.5", b"-0.5", b"3", b"1e2", b"abc", b"", b" 1", b"10.50", b"-3.21", b"0.2"]
FUTURE = [b"100000", b"1000000", b"500000"]
TIMES = FUTURE * 3 + [b"0", b"-1", b"abc", b"9223372036854775807", b"-9223372036854775808"]
AT = [b"33000000000", b"34000000000"] * 3 + [b"1", b"0", b"-5", b"abc"]
BITS = [b"0", b"1", b"7", b"8", b"100", b"-1", b"abc", b"4294967296"]
PATTERNS = [b"*", b"a*", b"h*", b"?", b"[a-c]", b"[^a]", b"\\a", b"*:1", b"nobody", b"[", b"h[as"]

# What brasa answers otherwise, on purpose. Each takes the command's words and both replies.
ALLOWED = {
    "a key or field of no more than 65,535 bytes; Redis takes 512 MiB": lambda w, r, b: b"65535" in b,
    "hexadecimal and other forms of C's strtold are no numbers": lambda w, r, b: w[0] in (b"INCRBYFLOAT", b"HINCRBYFLOAT")
    and any(x.lower().startswith((b"0x", b"-0x")) for x in w[1:]),
    "newer options of SET, of Redis 8.4": lambda w, r, b: w[0] == b"SET" and any(x.upper().startswith(b"IF") for x in w[3:]),
    "OBJECT ENCODING of a string or hash that was changed in place": lambda w, r, b: w[0] == b"OBJECT",
    "decimal fractions are added exactly; Redis rounds to the 64 bits of x87": lambda w, r, b: w[0] in (b"INCRBYFLOAT", b"HINCRBYFLOAT")
    and r[:1] == b[:1] == b"$" and abs(float(r.split()[1]) - float(b.split()[1])) <= 1e-15 * abs(float(r.split()[1])),
    "DUMP's payload is brasa's own": lambda w, r, b: w[0] == b"DUMP",
    "SCAN's cursor and the size of its pages are each server's own": lambda w, r, b: w[0] in (b"SCAN", b"HSCAN")
    and r[:1] == b[:1] == b"*",
    "DBSIZE counts no key whose time is up; Redis counts it until it is removed": lambda w, r, b: w[0] == b"DBSIZE" and int(b[1:]) < int(r[1:]),
    "what is drawn at random": lambda w, r, b: w[0] in (b"RANDOMKEY", b"HRANDFIELD") and r[:1] == b[:1],
}
MAY_STAY_UNMET = {
    "a key or field of no more than 65,535 bytes; Redis takes 512 MiB",
    "hexadecimal and other forms of C's strtold are no numbers",
    "decimal fractions are added exactly; Redis rounds to the 64 bits of x87",
    "newer options of SET, of Redis 8.4",
}


class Peer:
    def __init__(self, port, protocol):
        self.socket = socket.create_connection(("127.0.0.1", port))
        self.file = self.socket.makefile("rb")
        if protocol == 3:
            self.send([b"HELLO", b"3"])
            self.reply()

    def send(self, words):
        parts = [b"*%d\r\n" % len(words)]
        for word in words:
            parts.append(b"$%d\r\n%s\r\n" % (len(word), word))
        self.socket.sendall(b"".join(parts))

    def reply(self):
        """The reply's bytes, and its parts where it is a list."""
        line = self.file.readline()
        if not line:
            raise EOFError
        kind = line[:1]
        if kind in b"$=":
            count = int(line[1:])
            body = self.file.read(count + 2) if count >= 0 else b""
            return line + body, None
        if kind in b"*%>~":
            count = int(line[1:])
            parts = [self.reply() for _ in range(max(count, 0) * (2 if kind == b"%" else 1))]
            return line + b"".join(part[0] for part in parts), parts
        return line, None


def unordered(words, reply):
    """A reply whose order means nothing, in one order."""
    name, (text, parts) = words[0].upper(), reply
    if parts is None:
        return text
    if name == b"HGETALL":
        pairs = [parts[i][0] + parts[i + 1][0] for i in range(0, len(parts) - 1, 2)]
        return text[:1] + b"".join(sorted(pairs))
    if name in (b"HKEYS", b"HVALS", b"KEYS"):
        return text[:1] + b"".join(sorted(part[0] for part in parts))
    return text


def pick(r, things):
    return r.choice(things)


def command(r):
    key, field, value = (lambda: pick(r, KEYS)), (lambda: pick(r, FIELDS)), (lambda: pick(r, VALUES))
    number, small, flt, when = (lambda: pick(r, NUMBERS)), (lambda: pick(r, SMALL)), (lambda: pick(r, FLOATS)), (lambda: pick(r, TIMES))

    def some(of, least=1, most=3):
        return [of() for _ in range(r.randint(least, most))]

    def option(*words):
        return list(words) if r.random() < 0.3 else []

    def expiry():
        return r.choice([[], [], [b"EX", when()], [b"PX", when()], [b"EXAT", pick(r, AT)], [b"PXAT", pick(r, AT)], [b"KEEPTTL"], [b"PERSIST"], [b"EX"]])

    def pairs(of):
        return sum(([of(), value()] for _ in range(r.randint(1, 3))), []) + option(value())

    forms = [
        lambda: [b"GET", key()],
        lambda: [b"SET", key(), value(), *option(pick(r, [b"NX", b"XX"])), *option(b"GET"), *expiry()],
        lambda: [b"SETEX", key(), when(), value()],
        lambda: [b"PSETEX", key(), when(), value()],
        lambda: [b"SETNX", key(), value()],
        lambda: [b"GETSET", key(), value()],
        lambda: [b"GETDEL", key()],
        lambda: [b"GETEX", key(), *expiry()],
        lambda: [b"MGET", *some(key)],
        lambda: [b"MSET", *pairs(key)],
        lambda: [b"MSETNX", *pairs(key)],
        lambda: [b"STRLEN", key()],
        lambda: [b"APPEND", key(), value()],
        lambda: [b"GETRANGE", key(), small(), small()],
        lambda: [b"SUBSTR", key(), small(), small()],
        lambda: [b"SETRANGE", key(), pick(r, SMALL + [b"536870911"]), value()],
        lambda: [b"INCR", key()],
        lambda: [b"DECR", key()],
        lambda: [b"INCRBY", key(), number()],
        lambda: [b"DECRBY", key(), number()],
        lambda: [b"INCRBYFLOAT", pick(r, NUMBER_KEYS), flt()],
        lambda: [b"SET", pick(r, NUMBER_KEYS), flt()],
        lambda: [b"HSET", pick(r, NUMBER_KEYS), field(), flt()],
        lambda: [b"DEL", pick(r, NUMBER_KEYS)],
        lambda: [b"LCS", key(), key(), *option(b"LEN"), *option(b"IDX"), *option(b"MINMATCHLEN", small()), *option(b"WITHMATCHLEN")],
        lambda: [b"SETBIT", key(), pick(r, BITS), pick(r, [b"0", b"1", b"2", b"x"])],
        lambda: [b"GETBIT", key(), pick(r, BITS)],
        lambda: [b"BITCOUNT", key(), *r.choice([[], [small()], [small(), small()], [small(), small(), pick(r, [b"BYTE", b"bit", b"x"])]])],
        lambda: [b"BITPOS", key(), pick(r, [b"0", b"1", b"2", b"x"]), *r.choice([[], [small()], [small(), small()], [small(), small(), pick(r, [b"BYTE", b"BIT", b"x"])]])],
        lambda: [b"BITOP", pick(r, [b"AND", b"OR", b"XOR", b"NOT", b"nand"]), key(), *some(key)],
        lambda: [pick(r, [b"BITFIELD", b"BITFIELD_RO"]), key(), *sum((r.choice([
            [b"GET", pick(r, [b"u8", b"i16", b"u63", b"i64", b"u64", b"i1"]), pick(r, [b"0", b"#1", b"7", b"-1"])],
            [b"SET", pick(r, [b"u8", b"i5", b"u1"]), pick(r, [b"0", b"#2", b"3"]), number()],
            [b"INCRBY", pick(r, [b"u8", b"i5", b"i64"]), pick(r, [b"0", b"#1"]), number()],
            [b"OVERFLOW", pick(r, [b"WRAP", b"sat", b"FAIL", b"x"])],
        ]) for _ in range(r.randint(0, 3))), [])],
        lambda: [b"HSET", key(), *pairs(field)],
        lambda: [b"HMSET", key(), *pairs(field)],
        lambda: [b"HSETNX", key(), field(), value()],
        lambda: [b"HGET", key(), field()],
        lambda: [b"HMGET", key(), *some(field)],
        lambda: [b"HGETALL", key()],
        lambda: [b"HKEYS", key()],
        lambda: [b"HVALS", key()],
        lambda: [b"HLEN", key()],
        lambda: [b"HDEL", key(), *some(field)],
        lambda: [b"HEXISTS", key(), field()],
        lambda: [b"HSTRLEN", key(), field()],
        lambda: [b"HINCRBY", key(), field(), number()],
        lambda: [b"HINCRBYFLOAT", pick(r, NUMBER_KEYS), field(), flt()],
        lambda: [b"HRANDFIELD", key(), *r.choice([[], [small()], [small(), b"WITHVALUES"], [small(), b"x"]])],
        lambda: [b"HSCAN", key(), pick(r, [b"0", b"abc", b"-1"]), *option(b"COUNT", small()), *option(b"MATCH", pick(r, PATTERNS))],
        lambda: [b"SCAN", pick(r, [b"0", b"abc"]), *option(b"COUNT", small()), *option(b"MATCH", pick(r, PATTERNS)), *option(b"TYPE", pick(r, [b"string", b"hash", b"list"]))],
        lambda: [b"DEL", *some(key)],
        lambda: [b"UNLINK", *some(key)],
        lambda: [b"EXISTS", *some(key)],
        lambda: [b"TOUCH", *some(key)],
        lambda: [b"TYPE", key()],
        lambda: [b"KEYS", pick(r, PATTERNS)],
        lambda: [b"EXPIRE", key(), when(), *option(pick(r, [b"NX", b"XX", b"GT", b"LT", b"x"])), *option(pick(r, [b"NX", b"GT", b"XX"]))],
        lambda: [b"PEXPIRE", key(), pick(r, [b"100000000", b"200000000", b"0", b"-1", b"x"]), *option(pick(r, [b"NX", b"XX", b"GT", b"LT"]))],
        lambda: [b"EXPIREAT", key(), pick(r, AT), *option(pick(r, [b"NX", b"XX", b"GT", b"LT"]))],
        lambda: [b"PEXPIREAT", key(), pick(r, [b"33000000000000", b"34000000000000", b"1", b"x"])],
        lambda: [b"EXPIRETIME", key()] if r.random() < 0.5 else [b"PERSIST", key()],
        lambda: [b"RENAME", key(), key()],
        lambda: [b"RENAMENX", key(), key()],
        lambda: [b"COPY", key(), key(), *option(b"DB", pick(r, [b"0", b"1", b"99", b"x"])), *option(b"REPLACE")],
        lambda: [b"MOVE", key(), pick(r, [b"0", b"1", b"99", b"x"])],
        lambda: [b"SWAPDB", pick(r, [b"0", b"1", b"x"]), pick(r, [b"0", b"1", b"99", b"y"])],
        lambda: [b"SELECT", pick(r, [b"0", b"1", b"0", b"16", b"-1", b"x", b"99999999999"])],
        lambda: [b"RANDOMKEY"],
        lambda: [b"DBSIZE"],
        lambda: [b"OBJECT", pick(r, [b"ENCODING", b"REFCOUNT", b"FREQ", b"FOO"]), key()],
        lambda: [b"DUMP", key()],
        lambda: [b"RESTORE", key(), b"0", value()],
        lambda: [b"MULTI"],
        lambda: [b"EXEC"],
        lambda: [b"EXEC"],
        lambda: [b"DISCARD"],
        lambda: [b"WATCH", *some(key)],
        lambda: [b"UNWATCH"],
        lambda: [b"PING", *option(value())],
        lambda: [b"ECHO", value()],
        lambda: [b"WAIT", b"0", pick(r, [b"0", b"1", b"-1", b"x"])],
        lambda: [b"FLUSHDB", *option(pick(r, [b"ASYNC", b"SYNC", b"x"]))] if r.random() < 0.1 else [b"DBSIZE"],
        lambda: [b"CONFIG", pick(r, [b"GET", b"FOO"]), pick(r, [b"databases", b"nothing"])],
        lambda: [b"COMMAND", b"GETKEYS", b"SET", b"k", b"v"],
        lambda: [b"NOSUCH", *some(value, 0)],
        lambda: [b"CLIENT", pick(r, [b"GETNAME", b"FOO"])],
    ]
    words = r.choice(forms)()
    # Too few words, too many, and a name in lower case.
    chance = r.random()
    if chance < 0.03 and len(words) > 1:
        words = words[:-1]
    elif chance < 0.05:
        words = words + [value()]
    elif chance < 0.15:
        words[0] = words[0].lower()
    return words


def show(words):
    return " ".join(repr(word)[1:] for word in words)


def contents(peer):
    """Everything that there is, of both databases that were written to."""
    found = {}

    def ask(*words):
        peer.send(list(words))
        return peer.reply()

    ask(b"DISCARD")
    for database in (b"0", b"1"):
        ask(b"SELECT", database)
        for part in ask(b"KEYS", b"*")[1]:
            key = part[0].split(b"\r\n", 1)[1][:-2]
            kind = ask(b"TYPE", key)[0]
            value = ask(b"GET", key)[0] if kind == b"+string\r\n" else unordered([b"HGETALL"], ask(b"HGETALL", key))
            # The two read their clocks one after the other.
            deadline = int(ask(b"PEXPIRETIME", key)[0][1:])
            found[database, key] = (kind, value, deadline if deadline < 0 else round(deadline / 60_000))
    return found


def run(seed, count, ports, protocol, met):
    r = random.Random(seed * 2 + protocol)
    peers = [Peer(port, protocol) for port in ports]
    history = []
    for peer in peers:
        peer.send([b"FLUSHALL"])
        peer.reply()
    differences = 0
    for _ in range(count):
        words = command(r)
        if r.random() < 0.001:
            words = [b"FLUSHALL"]
        history.append(words)
        for peer in peers:
            peer.send(words)
        replies = [peer.reply() for peer in peers]
        upper = [words[0].upper(), *words[1:]]
        ours, theirs = unordered(upper, replies[1]), unordered(upper, replies[0])
        if ours == theirs:
            continue
        reason = next((name for name, allows in ALLOWED.items() if allows(upper, theirs, ours)), None)
        if reason is None and words[0].upper() == b"EXEC" and replies[0][1] is not None and replies[1][1] is not None:
            reason = "of a transaction's commands"
            if len(replies[0][1]) != len(replies[1][1]):
                reason = None
        if reason is not None:
            met.add(reason)
            if upper[0] in (b"INCRBYFLOAT", b"HINCRBYFLOAT"):
                # From here on they hold the same again.
                for peer in peers:
                    peer.send([b"DEL", words[1]])
                    peer.reply()
            continue
        differences += 1
        print(f"difference (seed {seed}, protocol {protocol}, command {len(history)}):\n  {show(words)}\n  Redis: {theirs!r}\n  brasa: {ours!r}")
        keys = set(words[1:2])
        before = [number for number in range(len(history) - 1) if keys & set(history[number]) or number >= len(history) - 4]
        print("  before it:", *(show(history[number]) for number in before[-8:]), sep="\n    ")
        if differences >= 12:
            break
    here, there = contents(peers[1]), contents(peers[0])
    for place in sorted(set(here) | set(there)):
        if here.get(place) != there.get(place):
            differences += 1
            print(f"another content at {place}: Redis {there.get(place)!r}, brasa {here.get(place)!r} (seed {seed}, protocol {protocol})")
            break
    return differences


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("redis_port", type=int)
    parser.add_argument("brasa_port", type=int)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--commands", type=int, default=20_000)
    choices = parser.parse_args()
    print(f"seed {choices.seed}")
    met, differences = set(), 0
    for protocol in (2, 3):
        differences += run(choices.seed, choices.commands, (choices.redis_port, choices.brasa_port), protocol, met)
    for reason in ALLOWED:
        if reason not in met and reason not in MAY_STAY_UNMET:
            print(f"never met: {reason}")
            differences += 1
    print(f"{2 * choices.commands} commands, {differences} differences")
    sys.exit(differences != 0)


main()
