"""A client of bare sockets, which keeps the bytes of a reply as they came."""

import socket


class Raw:
    """One connection. `ask` gives the bytes of one reply."""

    def __init__(self, port, timeout=20):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=timeout)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = bytearray()

    def send(self, *commands):
        self.socket.sendall(b"".join(encode(command) for command in commands))

    def fill(self):
        received = self.socket.recv(1 << 16)
        if not received:
            raise ConnectionError("the server has closed the connection")
        self.buffer += received

    def reply(self):
        """The bytes of the next reply."""
        while (end := reply_end(self.buffer, 0)) is None:
            self.fill()
        reply = bytes(self.buffer[:end])
        del self.buffer[:end]
        return reply

    def ask(self, *arguments):
        self.send(arguments)
        return self.reply()

    def value(self, *arguments):
        """The reply as Python's values; errors as ("error", text)."""
        return decode(self.ask(*arguments))[0]

    def close(self):
        self.socket.close()


def as_bytes(argument):
    return argument if isinstance(argument, bytes) else str(argument).encode()


def encode(arguments):
    parts = [b"*%d\r\n" % len(arguments)]
    for argument in map(as_bytes, arguments):
        parts.append(b"$%d\r\n%s\r\n" % (len(argument), argument))
    return b"".join(parts)


def reply_end(buffer, at):
    """Where the reply at `at` ends, or None where it is not whole yet."""
    pending = 1
    while pending:
        line_end = buffer.find(b"\r\n", at)
        if line_end < 0:
            return None
        kind, count = buffer[at : at + 1], buffer[at + 1 : line_end]
        at = line_end + 2
        pending -= 1
        if kind in (b"$", b"=", b"!"):
            if int(count) >= 0:
                at += int(count) + 2
                if at > len(buffer):
                    return None
        elif kind in (b"*", b"~", b">"):
            pending += max(int(count), 0)
        elif kind in (b"%", b"|"):
            pending += 2 * int(count) + (kind == b"|")
    return at


def decode(reply, at=0):
    """A reply as Python's values, and where it ends."""
    line_end = reply.index(b"\r\n", at)
    kind, text = reply[at : at + 1], reply[at + 1 : line_end]
    at = line_end + 2
    if kind == b"+":
        return text.decode(), at
    if kind == b"-":
        return ("error", text.decode()), at
    if kind in (b":", b"("):
        return int(text), at
    if kind == b",":
        return float(text), at
    if kind == b"#":
        return text == b"t", at
    if kind == b"_":
        return None, at
    count = int(text)
    if count < 0:
        return None, at
    if kind in (b"$", b"="):
        return reply[at : at + count], at + count + 2
    if kind == b"%":
        pairs = {}
        for _ in range(count):
            key, at = decode(reply, at)
            pairs[key], at = decode(reply, at)
        return pairs, at
    if kind in (b"*", b"~", b">"):
        items = []
        for _ in range(count):
            item, at = decode(reply, at)
            items.append(item)
        return items, at
    raise ValueError(f"a reply that begins with {kind!r}")
