"""The worker of cache.rs for Python's diskcache: the same work, told in the same form."""

import random
import sys
import threading
import time

import diskcache

path, threads, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
cache = diskcache.Cache(path, timeout=60)
value = b"\x07" * 100
computed = threading.local()


@diskcache.memoize_stampede(cache, expire=3600)
def hit(key):
    return value


@diskcache.memoize_stampede(cache, expire=3600)
def slow(key):
    computed.here = True
    time.sleep(0.2)
    return value


print("ready", flush=True)
for line in sys.stdin:
    order, argument = line.split()
    if order == "fill":
        for number in range(int(argument)):
            hit(f"user:{number:011}")
        print("filled", flush=True)
    elif order == "hits":
        count, end = 0, time.perf_counter() + seconds
        while time.perf_counter() < end:
            for _ in range(64):
                hit(f"user:{random.randrange(int(argument)):011}")
            count += 64
        print(count, flush=True)
    elif order == "miss":
        told = []
        barrier = threading.Barrier(threads)

        def ask():
            barrier.wait()
            computed.here = False
            begun = time.perf_counter_ns()
            slow(argument)
            took = (time.perf_counter_ns() - begun) // 1000
            told.append(f"{'c' if computed.here else 'w'}{took}")

        asking = [threading.Thread(target=ask) for _ in range(threads)]
        for thread in asking:
            thread.start()
        for thread in asking:
            thread.join()
        print(*told, flush=True)
