"""The worker of processes.rs for Python's diskcache: the same work, told in the same form."""

import random
import sys
import time

import diskcache

path, number, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
cache = diskcache.Cache(path, timeout=60)
value = b"\x07" * 100
counts = {}
longest = 0
print("ready", flush=True)
sys.stdin.readline()
end = time.perf_counter() + seconds
while True:
    key = f"{number}:{random.randrange(10_000):014}"
    begun = time.perf_counter_ns()
    cache.set(key, value)
    ns = max(time.perf_counter_ns() - begun, 16)
    power = ns.bit_length() - 1
    index = power * 16 + (ns >> (power - 4) & 15)
    counts[index] = counts.get(index, 0) + 1
    longest = max(longest, ns)
    if time.perf_counter() > end:
        break
print(longest, *(f"{index}:{count}" for index, count in sorted(counts.items())), flush=True)
