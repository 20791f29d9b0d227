"""Random commands, sent to Redis and to brasa alike: the replies are the same bytes, and so is what is left.

    differential.py REDIS_PORT BRASA_PORT [--commands N] [--seed S] [--same]

Every verb that both name in COMMAND is tried, or is excluded below with a reason. They are sent one by one, in pipelines of some
(several in one write), or as one long pipeline; and as transactions too, which may lie across writes. Whoever finds a difference is
given the shortest sequence that still shows it. With two Redis servers it tells whether it is sound itself.
"""

import argparse
import random
import sys
import time

from allowed import ALLOWED
from resp import Raw, as_bytes, decode, reply_end
from verbs import EXCLUDED, KEYS, VERBS, command

SEQUENCE_COMMANDS = 40
SHRINKING_RUNS = 150
REPORTED = 25

# Stands in a sequence where the replies to what was sent are read, before more is sent.
PAUSE = ()
# How often one follows a command: always, now and then, never.
PAUSES = (1, 0.2, 0)

UNORDERED = {"keys", "hkeys", "hvals", "hgetall", "scan", "hscan"}
SHAPE_ONLY = {"randomkey", "hrandfield", "dump", "memory", "time", "lastsave"}
# How far apart the clocks of two servers may be asked, in the unit of the reply.
TOLERANCE = {"ttl": 5, "expiretime": 5, "pttl": 5000, "pexpiretime": 5000}


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
    if name == "object" and left[:1] == right[:1] == b":":
        # REFCOUNT and IDLETIME: Redis shares values, among keys and with the commands of a transaction, and brasa does not.
        return min(int(left[1:]), int(right[1:])) >= 0
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
        # What was sent to each of them and compared, so that nobody trusts a comparison that did not take place.
        self.pipelines = self.transactions = 0

    def resolved(self, side, words):
        if not any(isinstance(word, Payload) for word in words):
            return words
        given = [self.dumping[side].value("DUMP", w.key) if isinstance(w, Payload) else w for w in words]
        return [b"" if not isinstance(word, (bytes, str, int)) else word for word in given]

    def replies(self, sequence):
        """The replies of both, and nothing for a pause; what stands between pauses and payloads goes out as one write."""
        for side in self.sides:
            side.ask("RESET")
            side.ask("SELECT", 0)
            side.ask("FLUSHALL")
        answers = []
        for side in self.sides:
            answer = []
            for stretch in stretches(sequence):
                side.send(*(self.resolved(side, words) for words in stretch if words != PAUSE))
                answer += [b"" if words == PAUSE else side.reply() for words in stretch]
            answers.append(answer)
        self.pipelines += sum(len(stretch) > 2 for stretch in stretches(sequence))
        return list(zip(*answers))

    def allowed(self, words, left, right, before):
        for entry in ALLOWED:
            if entry.matches(words, left, right, before):
                self.fired[entry.name] += 1
                return entry
        return None

    def first_difference(self, sequence):
        """Where the first difference is that nothing allows, with both replies; else None."""
        queued = None
        for at, (words, (left, right)) in enumerate(zip(sequence, self.replies(sequence), strict=True)):
            if words == PAUSE:
                continue
            name = as_bytes(words[0]).lower()
            pairs_of_replies = [(words, left, right)]
            if name == b"exec" and queued is not None and left[:1] == right[:1] == b"*":
                if any(as_bytes(inner[0]).lower() == b"hello" for inner in queued):
                    # Redis writes each reply in the version of its moment, brasa all in the one that was reached.
                    return None
                (header, ours), (other_header, theirs) = elements(left), elements(right)
                if header == other_header == b"*%d\r\n" % len(queued):
                    self.transactions += len(queued) > 0
                    pairs_of_replies = zip(queued, ours, theirs, strict=True)
            for inner, a, b in pairs_of_replies:
                if same(inner, a, b):
                    continue
                entry = self.allowed(inner, a, b, sequence[:at])
                if entry is None:
                    return at, inner, a, b
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


def stretches(sequence):
    """What goes out as one write each: up to a pause; a command with a payload by itself, since what it stands for is read first."""
    parts = [[]]
    for words in sequence:
        if any(isinstance(word, Payload) for word in words):
            parts += [[words], []]
        else:
            parts[-1].append(words)
            if words == PAUSE:
                parts.append([])
    return [part for part in parts if part]


def random_sequence(randomness, verbs):
    """Commands and transactions, with pauses between them in one of three ways."""
    sequence, pause = [("HELLO", randomness.choice((2, 3)))], randomness.choice(PAUSES)

    def more(count):
        return [command(randomness, verbs, Payload) for _ in range(count)]

    while len(sequence) < SEQUENCE_COMMANDS:
        if randomness.random() < 0.9:
            sequence += more(1)
            continue
        if randomness.random() < 0.3:
            sequence += [("WATCH", randomness.choice(KEYS)), *more(randomness.randint(0, 2))]
        sequence += [("MULTI",), *more(randomness.randint(0, 8)), ("EXEC" if randomness.random() < 0.9 else "DISCARD",)]
    return [step for words in sequence for step in ((words, PAUSE) if randomness.random() < pause else (words,))]


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
    return "(the replies are read)" if words == PAUSE else " ".join(w if isinstance(w, str) and w.isalnum() else repr(w)[:80] for w in words)


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
        sequence = random_sequence(randomness, verbs)
        sent += sum(words != PAUSE for words in sequence)
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
    compared = f"{pair.pipelines} pipelines and {pair.transactions} transactions among them"
    print(f"seed {seed}: {sent} commands of {len(verbs)} verbs, {compared}, {len(differences)} differences")
    was_compared = pair.pipelines > 0 and pair.transactions > 0
    sys.exit(1 if differences or forgotten or not was_compared else 0)


if __name__ == "__main__":
    main()
