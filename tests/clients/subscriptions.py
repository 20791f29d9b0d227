"""What who subscribes is told, byte for byte as Redis tells it: subscriptions.py REDIS_PORT BRASA_PORT."""

import sys

from resp import Raw

REDIS, BRASA = int(sys.argv[1]), int(sys.argv[2])

SUBSCRIPTIONS = [
    [("SUBSCRIBE", "a", "b"), ("PUBLISH", "nobody", "x"), ("GET", "k"), ("PING",), ("PING", "y"), ("UNSUBSCRIBE", "b", "a")],
    [("PSUBSCRIBE", "a*", "b?"), ("SUBSCRIBE", "a"), ("PUNSUBSCRIBE", "a*", "none"), ("UNSUBSCRIBE", "a"), ("PUNSUBSCRIBE",), ("UNSUBSCRIBE",)],
    [("SSUBSCRIBE", "s"), ("SUNSUBSCRIBE", "s"), ("SUBSCRIBE",), ("PSUBSCRIBE",), ("RESET",)],
    [("MULTI",), ("SUBSCRIBE", "a"), ("EXEC",), ("UNSUBSCRIBE", "a")],
    # What was collected before is executed, though nobody could send it any more after the first of it.
    [("MULTI",), ("SUBSCRIBE", "a"), ("SET", "k", "v"), ("GET", "k"), ("EXEC",), ("GET", "k"), ("UNSUBSCRIBE", "a"), ("GET", "k")],
    [("SUBSCRIBE", "a"), ("MULTI",), ("GET", "k"), ("EXEC",), ("UNSUBSCRIBE", "a")],
    [("PUBSUB", "CHANNELS"), ("SUBSCRIBE", "a"), ("UNSUBSCRIBE", "a")],
]


def conversation(port, protocol, words):
    """All that a server says to some commands, and to one at the end that cannot be mistaken."""
    side = Raw(port)
    side.ask("HELLO", protocol)
    side.send(*words, ("RESET",), ("ECHO", "the end"))
    said = []
    while not said or said[-1] != b"$7\r\nthe end\r\n":
        said.append(side.reply())
    side.close()
    return said


def subscriptions():
    for protocol in (2, 3):
        for words in SUBSCRIPTIONS:
            both = [conversation(port, protocol, words) for port in (REDIS, BRASA)]
            assert both[0] == both[1], f"RESP{protocol} {words}\n  redis {both[0]}\n  brasa {both[1]}"


subscriptions()
print(f"{len(SUBSCRIPTIONS)} conversations, RESP2 and RESP3")
