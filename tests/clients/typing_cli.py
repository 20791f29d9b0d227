"""redis-cli as somebody uses it who types: typing_cli.py PORT. It asks COMMAND DOCS for its hints."""

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time

pid, terminal = pty.fork()
if pid == 0:
    os.environ["TERM"] = "xterm"
    # A terminal without a size is asked for it, and this one does not answer.
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 120, 0, 0))
    os.execvp("redis-cli", ["redis-cli", "-p", sys.argv[1]])

seen = b""


def until(text, seconds=10):
    global seen
    end = time.monotonic() + seconds
    while text not in seen:
        assert time.monotonic() < end, f"{text!r} did not come: {seen!r}"
        if select.select([terminal], [], [], 0.2)[0]:
            seen += os.read(terminal, 65536)
    seen = seen.split(text, 1)[1]


def prompt():
    """What is typed before the prompt is there is thrown away."""
    until(b"> ")


prompt()
os.write(terminal, b"set chave_1 ")
# The hint stands behind the cursor, in grey.
until(b"value [")
os.write(terminal, b'"Relou Uourdi"\r')
until(b"OK")
prompt()
os.write(terminal, b"hset meu_hash nome thailan\r")
until(b"(integer) ")
prompt()
os.write(terminal, b"help hexpire\r")
until(b"Sets the TTL of fields in seconds")
prompt()
os.write(terminal, b"subscribe news\r")
until(b"subscribe")
os.write(terminal, b"\x03")
# Ctrl-C ends the subscription alone, or the program: whichever came, the next tests see no channel.
os.close(terminal)
os.kill(pid, signal.SIGKILL)
os.waitpid(pid, 0)
print("hints, help, a subscription")
