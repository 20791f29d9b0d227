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
    # What must have been said somewhere before, as a test of a command: else it is no such case.
    after: Callable | None = None

    def matches(self, words, left, right, before):
        return (self.after is None or any(map(self.after, before))) and self.test(name_of(words), words, left, right)


def name_of(words):
    return as_bytes(words[0]).lower().decode("latin-1") if words else ""


def hello(name, words, left, right):
    return name == "hello" and left[:1] in (b"*", b"%") and left[: left.index(b"$7")] == right[: right.index(b"$7")]


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


def encoding(name, words, left, right):
    if left == b"$9\r\nhashtable\r\n" and right == b"$8\r\nlistpack\r\n":
        return name == "object"
    followed = {b"$3\r\nraw\r\n": (b"$6\r\nembstr\r\n", b"$3\r\nint\r\n"), b"$6\r\nembstr\r\n": (b"$3\r\nint\r\n",)}
    return name == "object" and right in followed.get(left, ())


def ended_cursors(name, words, left, right):
    at = {"scan": 1, "hscan": 2}.get(name, len(words))
    return b"\0" in b"".join(map(as_bytes, words[at : at + 1])) and right == b"-ERR invalid cursor\r\n"


def endless_deadlines(name, words, left, right):
    return name == "restore" and left == b"+OK\r\n" and right == b"-ERR invalid expire time in 'restore' command\r\n" and int(words[2]) > 1 << 62


def swapped(name, words, left, right):
    return name == "exec" and left[:1] == b"*" and left != right and right in NOTHING_DONE


def swaps(words):
    return name_of(words) == "swapdb"


def untouched(name, words, left, right):
    return name == "exec" and left in NOTHING_DONE and right[:1] == b"*" and right not in NOTHING_DONE


def sets_until(words):
    return name_of(words) == "set" and any(as_bytes(word).upper() in (b"EXAT", b"PXAT") for word in words[3:])


NOTHING_DONE = (b"*-1\r\n", b"_\r\n")

ALLOWED = [
    Allowed("hello", "it names the server's own version, and the number of the client", hello),
    Allowed("floats", "what is not added exactly as a decimal fraction is added in 64 bits; Redis adds in the 80 bits of x86", floats, diverges=True),
    Allowed("expired at once", "a key is gone when its time is over; Redis still counts and measures it until it removes it", expired),
    Allowed("encoding after a change", "the encoding follows from the value as it is; Redis keeps the one that an earlier value needed", encoding),
    Allowed("cursors with a zero byte", "a cursor that is no number is refused as a whole; Redis reads it up to its first zero byte", ended_cursors),
    Allowed("RESTORE beyond the end of time", "refused; in Redis the sum overflows, so that it says OK, and the key is not there", endless_deadlines, diverges=True),
    Allowed("WATCH and SWAPDB", "any swap of databases stops EXEC, since the log names one of the two only; Redis asks both for the key", swapped, diverges=True, after=swaps),
    Allowed("WATCH and a deadline in the past", "a key that was not there and is set until a moment that has passed was not touched: nothing is written; Redis sets it, and removes it", untouched, diverges=True, after=sets_until),
]
