"""Random commands, sent to Redis and to brasa alike: the replies are the same bytes, and so is what is left.

    differential.py REDIS_PORT BRASA_PORT [--commands N] [--seed S] [--same]

Every verb that both name in COMMAND is tried, or is excluded below with a reason. Whoever finds a difference is
given the shortest sequence that still shows it. With two Redis servers it tells whether it is sound itself.
"""

import argparse
import random
import sys
import time

from allowed import ALLOWED
from resp import Raw, as_bytes, decode, reply_end
from verbs import EXCLUDED, VERBS, command

SEQUENCE_COMMANDS = 40
SHRINKING_RUNS = 150
REPORTED = 25

UNORDERED = {"keys", "hkeys", "hvals", "hgetall", "scan", "hscan"}
SHAPE_ONLY = {"randomkey", "hrandfield", "dump", "memory", "time", "lastsave"}
# How far apart the clocks of two servers may be asked, in the unit of the reply.
TOLERANCE = {"ttl": 5, "expiretime": 5, "pttl": 5000, "pexpiretime": 5000, "object": 5}


class Payload:
    """Stands for what DUMP gave for a key at this server: the bytes differ by design, a round trip does not."""

    def __init__(self, key):
        self.key = key

    def __repr__(self):
        return f"payload of {self.key!r}"


def elements(reply):
    """The header of an aggregate, and the bytes of each of its elements."""
    at = reply.index(b"\r\n") + 2
    header, parts = reply[:at], []
    while at < len(reply):
        end = reply_end(reply, at)
        parts.append(reply[at:end])
        at = end
    return header, parts


def pairs(parts):
    return sorted(zip(parts[::2], parts[1::2]))


def normal(name, reply):
    """What of a reply is to be the same."""
    if reply[:1] == b"-" or (name not in UNORDERED and name not in SHAPE_ONLY):
        return reply
    if name in SHAPE_ONLY:
        return reply[:1] if name != "hrandfield" or reply[:1] == b"$" else reply[: reply.index(b"\r\n")]
    if reply[:1] not in (b"*", b"%"):
        return reply
    header, parts = elements(reply)
    if name == "hgetall":
        return header, pairs(parts)
    if name in ("scan", "hscan"):
        inner = elements(parts[1])[1]
        return header, parts[0], pairs(inner) if name == "hscan" else sorted(inner)
    return header, sorted(parts)


def same(words, left, right):
    name = as_bytes(words[0]).decode("latin-1").lower() if words else ""
    if left == right:
        return True
    if name in TOLERANCE and left[:1] == right[:1] == b":":
        return min(int(left[1:]), int(right[1:])) >= 0 and abs(int(left[1:]) - int(right[1:])) <= TOLERANCE[name]
    return normal(name, left) == normal(name, right)


def alike(left, right):
    """Whether a value and its deadline are the same, but for the moment between the two questions."""
    return right is not None and left[0] == right[0] and (left[1] < 0) == (right[1] < 0) and abs(left[1] - right[1]) < 5000


class Pair:
    """A connection to each."""

    def __init__(self, redis_port, brasa_port):
        self.sides = [Raw(redis_port), Raw(brasa_port)]
        # DUMP must not fall into a MULTI.
        self.dumping = {side: Raw(port) for side, port in zip(self.sides, (redis_port, brasa_port))}
        self.fired = dict.fromkeys((entry.name for entry in ALLOWED), 0)

    def resolved(self, side, words):
        if not any(isinstance(word, Payload) for word in words):
            return words
        given = [self.dumping[side].value("DUMP", w.key) if isinstance(w, Payload) else w for w in words]
        return [b"" if not isinstance(word, (bytes, str, int)) else word for word in given]

    def replies(self, sequence):
        """The replies of both; a stretch without payloads goes out as one write."""
        for side in self.sides:
            side.ask("RESET")
            side.ask("SELECT", 0)
            side.ask("FLUSHALL")
        answers = []
        for side in self.sides:
            stretches, answer = [[]], []
            for words in sequence:
                if any(isinstance(word, Payload) for word in words):
                    stretches += [[words], []]
                else:
                    stretches[-1].append(words)
            for stretch in stretches:
                side.send(*(self.resolved(side, words) for words in stretch))
                answer += [side.reply() for _ in stretch]
            answers.append(answer)
        return list(zip(*answers))

    def allowed(self, words, left, right):
        for entry in ALLOWED:
            if entry.matches(words, left, right):
                self.fired[entry.name] += 1
                return entry
        return None

    def first_difference(self, sequence):
        """Where the first difference is that nothing allows, with both replies; else None."""
        queued = None
        for at, (words, (left, right)) in enumerate(zip(sequence, self.replies(sequence))):
            name = as_bytes(words[0]).lower()
            if name == b"exec" and queued is not None and left[:1] == right[:1] == b"*":
                if any(as_bytes(inner[0]).lower() == b"hello" for inner in queued):
                    # Redis writes each reply in the version of its moment, brasa all in the one that was reached.
                    return None
                inside = [elements(reply)[1] for reply in (left, right)]
                if len(inside[0]) == len(inside[1]) == len(queued):
                    for inner, a, b in zip(queued, *inside):
                        if not same(inner, a, b):
                            entry = self.allowed(inner, a, b)
                            if entry is None:
                                return at, inner, a, b
                            if entry.diverges:
                                return None
                elif left != right:
                    return at, words, left, right
            elif not same(words, left, right):
                entry = self.allowed(words, left, right)
                if entry is None:
                    return at, words, left, right
                if entry.diverges:
                    return None
            if name == b"multi" and left[:1] == b"+":
                queued = []
            elif left[:7] == b"+QUEUED":
                queued.append(words)
            elif name in (b"exec", b"discard", b"reset") and len(words) == 1:
                queued = None
        return self.left_behind()

    def left_behind(self):
        """The whole contents, after each sequence."""
        contents = [self.contents(side) for side in self.sides]
        only = [{key: v for key, v in a.items() if not alike(v, b.get(key))} for a, b in (contents, contents[::-1])]
        if only == [{}, {}]:
            return None
        return -1, ("contents",), repr(only[0]).encode(), repr(only[1]).encode()

    @staticmethod
    def contents(side):
        side.ask("RESET")
        found = {}
        for database in (0, 1):
            side.ask("SELECT", database)
            keys = sorted(side.value("KEYS", "*"))
            side.send(*(command for key in keys for command in (("TYPE", key), ("PTTL", key))))
            kinds = [(decode(side.reply())[0], decode(side.reply())[0]) for _ in keys]
            read = {"string": "GET", "hash": "HGETALL"}
            side.send(*((read[kind], key) for key, (kind, _) in zip(keys, kinds) if kind in read))
            for key, (kind, deadline) in zip(keys, kinds):
                value = decode(side.reply())[0] if kind in read else kind
                if kind == "hash":
                    value = tuple(sorted(zip(value[::2], value[1::2])))
                found[database, key] = value, deadline
        return found


def shrunk(pair, sequence, verb):
    """Leaves out what is not needed, in halves and then one by one."""
    runs, size = 0, max(len(sequence) // 2, 1)
    while runs < SHRINKING_RUNS:
        at, before = 0, len(sequence)
        while at < len(sequence) and runs < SHRINKING_RUNS:
            shorter = sequence[:at] + sequence[at + size :]
            runs += 1
            found = pair.first_difference(shorter) if shorter else None
            if found and found[1][0] == verb:
                sequence = shorter
            else:
                at += size
        if size == 1 and len(sequence) == before:
            break
        size = max(size // 2, 1)
    return sequence


def shown(words):
    return " ".join(w if isinstance(w, str) and w.isalnum() else repr(w)[:80] for w in words)


def shared_verbs(pair):
    names = []
    for side in pair.sides:
        names.append({entry[0].decode() if isinstance(entry[0], bytes) else entry[0] for entry in side.value("COMMAND")})
    return {name for name in names[0] & names[1] if "|" not in name}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("redis_port", type=int)
    parser.add_argument("brasa_port", type=int)
    parser.add_argument("--commands", type=int, default=40_000)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--same", action="store_true", help="both are Redis: nothing is allowed, nothing is left out")
    parser.add_argument("--only", help="one verb and what fills its keys, to look for more of one kind")
    options = parser.parse_args()
    seed = options.seed if options.seed is not None else time.time_ns() % 1_000_000
    print(f"seed {seed} (again: --seed {seed})", flush=True)
    pair = Pair(options.redis_port, options.brasa_port)
    shared = shared_verbs(pair)
    forgotten = shared - set(VERBS) - set(EXCLUDED)
    verbs = sorted(shared & set(VERBS))
    if options.only:
        verbs = [options.only, "set", "hset"]
    randomness, sent, differences = random.Random(seed), 0, {}
    while sent < options.commands and len(differences) < REPORTED:
        protocol = randomness.choice((2, 3))
        sequence = [("HELLO", protocol)]
        for _ in range(SEQUENCE_COMMANDS):
            sequence.append(command(randomness, verbs, Payload))
        sent += len(sequence)
        found = pair.first_difference(sequence)
        if found is None:
            continue
        at, words, _, _ = found
        kind = (as_bytes(words[0]).lower(), found[2][:12], found[3][:12])
        if kind in differences:
            continue
        shortest = shrunk(pair, sequence[: at + 1] if at >= 0 else sequence, words[0])
        _, words, left, right = pair.first_difference(shortest) or found
        differences[kind] = True
        print(f"\ndifference: {shown(words)}")
        for step in shortest:
            print(f"    {shown(step)}")
        print(f"  redis {left[:300]!r}\n  brasa {right[:300]!r}", flush=True)
    if options.same:
        allowed = {name: times for name, times in pair.fired.items() if times and name != "hello"}
        print(f"{sent} commands, {len(differences)} differences, allowed {allowed}")
        sys.exit(1 if differences or allowed else 0)
    if forgotten:
        print(f"neither tried nor excluded with a reason (verbs.py): {sorted(forgotten)}")
    for entry in ALLOWED:
        print(f"  allowed {pair.fired[entry.name]:6} times: {entry.name}: {entry.reason}")
    idle = [name for name, times in pair.fired.items() if times == 0]
    if idle and options.commands >= 200_000:
        print(f"allowed, and never seen (take it off the list): {idle}")
    print(f"seed {seed}: {sent} commands of {len(verbs)} verbs, {len(differences)} differences")
    sys.exit(1 if differences or forgotten else 0)


if __name__ == "__main__":
    main()
