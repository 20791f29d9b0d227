"""What the differential test sends: how each verb is called, with good arguments and with bad ones.

A verb has shapes, of words: K a key, F a field, V a value, I an integer, N a number, S seconds and M milliseconds from
now, E seconds and P milliseconds since 1970, G a pattern, B a bit's offset, T a field's type as of BITFIELD, D a
database, C a cursor, R what DUMP gave for a key. Deadlines are far away or long past: no reply depends on when it is asked.
`[...]` is left out half the time, `a|b` is one of several, `x*` is repeated, in brackets or alone.
"""

KEYS = [f"k{n}" for n in range(10)] + ["", b"\x00\xff", "chave ção"]
FIELDS = ["f1", "f2", "f3", "nome", "", b"\r\n", "x" * 70]
VALUES = ["", "a", "0", "1", "10", "-5", "3.21", "1.50", "5e3", "Relou Uourdi", "ação", b"\x00\x01\xff\r\n", " 5", "5 ", "+5", "05", "-0"]
VALUES += ["9223372036854775807", "-9223372036854775808", "9223372036854775808", "inf", "nan", "x" * 44, "x" * 45, "y" * 65, "abc" * 300]
INTEGERS = [0, 1, -1, 2, 5, -3, 100, 65, 9223372036854775807, -9223372036854775808]
BAD_INTEGERS = ["", "a", "1.5", " 1", "1 ", "+1", "01", "9223372036854775808", "-"]
NUMBERS = ["0", "1", "-1", "1.5", "0.1", "-2.25", "3e2", "1e-3", "10000000000", "0.30000000000000004"]
# Hexadecimal ones are missing: Redis takes them as strtold() does, brasa takes decimal ones.
BAD_NUMBERS = ["", "abc", "nan", "inf", "-inf", "1 ", " 1", "1e5000"]
PATTERNS = ["*", "k*", "k?", "k[1-3]", "k[^1]", "nothing", "", "\\k1", "[", "k[1", "*1*", "f*", "[a-"]
OPTIONS = ["NX", "XX", "GT", "LT", "GET", "EX", "PX", "KEEPTTL", "COUNT", "MATCH", "REPLACE", "FOO", "0", "PERSIST"]

VERBS = {
    "append": ["K V"], "bitcount": ["K [I I] [BYTE|BIT]"], "bitfield": ["K [OVERFLOW WRAP|SAT|FAIL] GET|INCRBY|SET T B I", "K GET T B [OVERFLOW WRAP|SAT|FAIL] INCRBY T B I", "K GET T B"],
    "bitfield_ro": ["K GET T B"], "bitop": ["AND|OR|XOR|NOT|nor K K K*", "NOT K K"], "bitpos": ["K 0|1|2 [I I] [BYTE|BIT]"],
    "copy": ["K K [DB D] [REPLACE]"], "dbsize": [""], "decr": ["K"], "decrby": ["K I"], "del": ["K K*"], "discard": [""], "dump": ["K"], "echo": ["V"],
    "exec": [""], "exists": ["K K*"], "expire": ["K S [NX|XX|GT|LT] [NX|XX|GT|LT]"], "expireat": ["K E [NX|XX|GT|LT]"], "expiretime": ["K"],
    "flushall": ["[SYNC|ASYNC|x]"], "flushdb": ["[SYNC|ASYNC|x]"], "get": ["K"], "getbit": ["K B"], "getdel": ["K"],
    "getex": ["K [EX S|PX M|EXAT E|PXAT P|PERSIST]"], "getrange": ["K I I"], "getset": ["K V"],
    "hdel": ["K F F*"], "hexists": ["K F"], "hget": ["K F"], "hgetall": ["K"], "hincrby": ["K F I"], "hincrbyfloat": ["K F N"], "hkeys": ["K"], "hlen": ["K"],
    "hmget": ["K F F*"], "hmset": ["K F V", "K F V F V"], "hrandfield": ["K [I]", "K I WITHVALUES|x"], "hscan": ["K C [MATCH G] COUNT 1000"],
    "hset": ["K F V", "K F V F V F V"], "hsetnx": ["K F V"], "hstrlen": ["K F"], "hvals": ["K"],
    "incr": ["K"], "incrby": ["K I"], "incrbyfloat": ["K N"], "keys": ["G"], "lcs": ["K K [LEN|IDX]", "K K IDX [MINMATCHLEN I] [WITHMATCHLEN]"],
    "mget": ["K K*"], "move": ["K D"], "mset": ["K V", "K V K V"], "msetnx": ["K V", "K V K V"], "multi": [""],
    "object": ["ENCODING|REFCOUNT|IDLETIME|FREQ|x K"], "persist": ["K"], "pexpire": ["K M [NX|XX|GT|LT]"], "pexpireat": ["K P [NX|XX|GT|LT]"], "pexpiretime": ["K"],
    "ping": ["[V]"], "psetex": ["K M V"], "pttl": ["K"], "publish": ["K V"], "pubsub": ["CHANNELS [G]", "NUMSUB K*", "NUMPAT", "SHARDCHANNELS", "x"],
    "randomkey": [""], "rename": ["K K"], "renamenx": ["K K"], "reset": [""], "restore": ["K 0|M R [REPLACE]", "K P R ABSTTL [REPLACE]", "K 0 V [REPLACE]"],
    "scan": ["C [MATCH G] COUNT 1000 [TYPE string|hash|list|x]"], "select": ["D"], "set": ["K V [EX S|PX M|EXAT E|PXAT P|KEEPTTL] [NX|XX] [GET]", "K V"], "setbit": ["K B 0|1|2"],
    "setex": ["K S V"], "setnx": ["K V"], "setrange": ["K I V"], "strlen": ["K"], "substr": ["K I I"], "swapdb": ["D D"], "touch": ["K K*"],
    "ttl": ["K"], "type": ["K"], "unlink": ["K K*"], "unwatch": [""], "watch": ["K K*"], "memory": ["USAGE K [SAMPLES 0|5]"], "time": [""],
    "spublish": ["K V"], "lastsave": [""], "wait": ["0 0"], "hello": ["2|3|4|x", "3 SETNAME name", "2 AUTH a"],
}
RARE = {"flushall", "flushdb", "reset", "swapdb", "hello", "select", "move"}

EXCLUDED = {
    "acl": "answers for one user only", "auth": "its own tests: a password ends what others send", "bgsave": "files are Redis's own", "bgrewriteaof": "files are Redis's own",
    "client": "addresses and numbers of clients", "command": "the tables differ; redis-cli reads it in a part of its own", "config": "settings are each server's own",
    "debug": "each server's own inside", "function": "no scripts; only FLUSH answers", "info": "each server's own figures", "latency": "times", "module": "no modules",
    "monitor": "a stream without an end", "psubscribe": "several replies to one command; scripted in subscriptions.py", "punsubscribe": "as psubscribe", "quit": "ends the conversation",
    "save": "files are Redis's own", "shutdown": "ends the server", "slowlog": "times", "ssubscribe": "as psubscribe", "subscribe": "as psubscribe",
    "sunsubscribe": "as psubscribe", "unsubscribe": "as psubscribe", "waitaof": "not in 7.0",
    "eval": "no scripts", "evalsha": "no scripts", "script": "no scripts", "replicaof": "no replicas", "cluster": "no cluster", "readonly": "no cluster", "readwrite": "no cluster",
}


def word(randomness, kind, payload):
    """A word of a kind; one in twelve is a bad one."""
    bad = randomness.random() < 0.08
    pick = randomness.choice
    far, past = randomness.randint(1_000_000, 2_000_000), randomness.randint(1, 1_000_000)
    epoch = 4_000_000_000
    if kind == "K":
        return pick(KEYS)
    if kind == "F":
        return pick(FIELDS)
    if kind == "V":
        return pick(VALUES)
    if kind in "IB" and not bad:
        return pick(INTEGERS) if kind == "I" else pick(["0", "1", "7", "8", "63", "#1", "100", "-1", "4294967296"])
    if kind == "N":
        return pick(BAD_NUMBERS if bad else NUMBERS)
    if kind == "C" and bad:
        # Any other number is a place in each server's own order.
        return pick(["", "a", "1.5", " 1", "-"])
    if kind in "IBDSMEP" and bad:
        return pick(BAD_INTEGERS + ["-1", "0", "9223372036854775807"] if kind in "SMEP" else BAD_INTEGERS)
    return {
        "S": far, "M": far * 1000, "E": epoch + past if randomness.random() < 0.8 else past, "P": (epoch + past) * 1000 if randomness.random() < 0.8 else past,
        "G": pick(PATTERNS), "D": pick([0, 1, 1, 0, 0, 16, -1]), "C": 0, "R": payload(pick(KEYS)),
        "T": pick(["u8", "i8", "u1", "i5", "u63", "i64", "u64", "i65", "x", "u0", "i16"]),
    }[kind]


def words_of(randomness, shape, payload):
    """One call, out of a shape."""
    out, at = [], 0
    tokens = shape.replace("[", " [ ").replace("]", " ] ").split()
    while at < len(tokens):
        token = tokens[at]
        if token == "[":
            end = tokens.index("]", at)
            if randomness.random() < 0.5:
                # In brackets, bars part whole options.
                for part in randomness.choice(" ".join(tokens[at + 1 : end]).split("|")).split():
                    out.append(word(randomness, part, payload) if len(part) == 1 and part.isupper() else part)
            at = end
        else:
            token, times = (token[:-1], randomness.randint(0, 3)) if token.endswith("*") else (token, 1)
            for _ in range(times):
                part = randomness.choice(token.split("|"))
                out.append(word(randomness, part, payload) if len(part) == 1 and part.isupper() else part)
        at += 1
    return out


def command(randomness, verbs, payload):
    """A call of one of the verbs; one in ten has a word too many, too few, or another one."""
    name = randomness.choice(verbs)
    if name in RARE and randomness.random() < 0.7:
        name = randomness.choice([verb for verb in verbs if verb not in RARE] or verbs)
    # What they are about has to be there.
    if randomness.random() < 0.15:
        name = randomness.choice([verb for verb in ("set", "hset", "mset", "setrange", "hincrby") if verb in verbs] or [name])
    arguments = words_of(randomness, randomness.choice(VERBS[name]), payload)
    if randomness.random() < 0.1:
        at = randomness.randint(0, len(arguments))
        change = randomness.choice(("more", "fewer", "other"))
        if change == "more":
            arguments.insert(at, randomness.choice(OPTIONS))
        elif change == "fewer" and arguments:
            del arguments[min(at, len(arguments) - 1)]
        elif arguments:
            arguments[min(at, len(arguments) - 1)] = randomness.choice(OPTIONS)
    written = name.upper() if randomness.random() < 0.5 else name
    # A scan that is cut short would stop elsewhere at each server; a megabyte of zeros says no more than a hundred.
    return clipped((written, *arguments))


def clipped(words):
    name = words[0].lower()
    if name in ("scan", "hscan") and [str(w).upper() for w in words[-4:]].count("COUNT") == 0:
        return (*words, "COUNT", "1000")
    if name == "setrange" and len(words) > 2 and str(words[2]) == "9223372036854775807":
        return (*words[:2], "536870912", *words[3:])
    return words
