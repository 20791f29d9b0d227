"""Where brasa differs from Redis 7.0.15 on purpose, each with its reason."""

from dataclasses import dataclass
from typing import Callable

from resp import as_bytes


@dataclass
class Allowed:
    name: str
    reason: str
    test: Callable
    # Whether what follows may differ too: the rest of the sequence is not compared then.
    diverges: bool = False

    def matches(self, words, left, right):
        return self.test(as_bytes(words[0]).lower().decode("latin-1"), words, left, right)


def hello(name, words, left, right):
    return name == "hello" and left[:1] in (b"*", b"%") and left[: left.index(b"$7")] == right[: right.index(b"$7")]


def two_complaints(name, words, left, right):
    texts = (b"-ERR syntax error", b"-ERR value is not an integer", b"-ERR value is out of range", b"-ERR The bit argument")
    return name in ("bitpos", "bitcount", "hrandfield") and left.startswith(texts) and right.startswith(texts)


def floats(name, words, left, right):
    if name not in ("incrbyfloat", "hincrbyfloat"):
        return False
    if left[:1] == right[:1] == b"$":
        a, b = (float(reply.split(b"\r\n")[1]) for reply in (left, right))
        return abs(a - b) <= 1e-12 * max(abs(a), abs(b), 1)
    return False


def expired(name, words, left, right):
    if name == "memory" and left[:1] == b":" and right in (b"$-1\r\n", b"_\r\n"):
        return True
    return name == "dbsize" and left[:1] == right[:1] == b":" and int(left[1:]) > int(right[1:])


def refcount(name, words, left, right):
    return name == "object" and left == b":2147483647\r\n" and right == b":1\r\n"


def encoding(name, words, left, right):
    if left == b"$9\r\nhashtable\r\n" and right == b"$8\r\nlistpack\r\n":
        return name == "object"
    followed = {b"$3\r\nraw\r\n": (b"$6\r\nembstr\r\n", b"$3\r\nint\r\n"), b"$6\r\nembstr\r\n": (b"$3\r\nint\r\n",)}
    return name == "object" and right in followed.get(left, ())


def infinite(name, words, left, right):
    mistakes = (b"-ERR increment would produce NaN", b"-WRONGTYPE", b"-ERR hash value is not a float")
    return name in ("incrbyfloat", "hincrbyfloat") and left.startswith(b"-ERR value is") and right.startswith(mistakes)


def halved_counts(name, words, left, right):
    return name == "hrandfield" and left == b"-ERR value is out of range\r\n" and right[:1] in (b"*", b"-")


def channels(name, words, left, right):
    return name == "pubsub" and left.startswith(b"-ERR unknown subcommand or wrong number of arguments") and right.startswith(b"-ERR")


def samples(name, words, left, right):
    return name == "memory" and left.startswith(b"-ERR") and right.startswith(b"-ERR")


def ended_cursors(name, words, left, right):
    return name in ("scan", "hscan") and any(b"\0" in as_bytes(word) for word in words[1:3]) and right == b"-ERR invalid cursor\r\n"


ALLOWED = [
    Allowed("hello", "it tells the server's own version, and the number of the client", hello),
    Allowed("two mistakes", "of two mistakes in one call, another one is named", two_complaints),
    Allowed("floats", "numbers are 64-bit floats; Redis adds in the 80 bits of x86, and shows what is left of them", floats, diverges=True),
    Allowed("expired at once", "what has expired is not counted; Redis counts it until it is removed", expired),
    Allowed("shared integers", "no integer is shared between keys, and none counts who uses it", refcount),
    Allowed("encoding after a change", "a value has no history: the encoding follows from what it is now", encoding),
    Allowed("infinite increments", "an increment that is not finite is refused when it is added, in the same words for both verbs", infinite),
    Allowed("halved counts", "a count of pairs that is larger than half of 2^63 is as good as any other that exceeds the fields", halved_counts),
    Allowed("PUBSUB CHANNELS", "a word too many is said in the same text for all subcommands", channels),
    Allowed("MEMORY USAGE", "of two mistakes behind SAMPLES another one is named", samples),
    Allowed("cursors with a zero byte", "a cursor is the whole word; Redis reads it up to a zero byte", ended_cursors),
]
