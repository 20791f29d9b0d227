"""What somebody does who comes from Redis in Python, with redis-py as they use it: story.py PORT PROTOCOL MARIADB_PORT."""

import sqlite3
import sys
import time

import pymysql
import redis


class Connection:
    """One connection for the whole program."""

    _client = None

    @classmethod
    def get(cls):
        if cls._client is None:
            cls._client = redis.Redis(host="localhost", port=PORT, db=0, protocol=PROTOCOL)
        return cls._client


class Repository:
    def __init__(self, connection):
        self._connection = connection

    def insert(self, key, value):
        self._connection.set(key, value)

    def get(self, key):
        value = self._connection.get(key)
        return value.decode("utf-8") if value is not None else None

    def insert_hash(self, key, field, value):
        self._connection.hset(key, field, value)

    def get_hash(self, key, field):
        value = self._connection.hget(key, field)
        return value.decode("utf-8") if value is not None else None

    def insert_ex(self, key, value, ex):
        self._connection.set(key, value, ex=ex)

    def insert_hash_ex(self, key, field, value, ex):
        self._connection.hset(key, field, value)
        self._connection.expire(key, ex)


def wait_until(is_so, what, seconds=10):
    end = time.monotonic() + seconds
    while not is_so():
        assert time.monotonic() < end, what
        time.sleep(0.02)


def strings_and_hashes(client):
    client.set("chave_1", "Relou Uourdi")
    assert client.get("chave_1") == b"Relou Uourdi"
    assert client.get("chave_1").decode("utf-8") == "Relou Uourdi"
    client.set("preço", "três e vinte")
    assert client.get("preço").decode("utf-8") == "três e vinte"
    for field, value in (("nome", "thailan"), ("idade", 29), ("city", "Recife")):
        client.hset("meu_hash", field, value)
    assert client.hget("meu_hash", "nome").decode() == "thailan"
    assert client.hget("meu_hash", "idade").decode() == "29"
    assert client.hgetall("meu_hash") == {b"nome": b"thailan", b"idade": b"29", b"city": b"Recife"}
    assert client.exists("chave_1") == 1 and client.exists("meu_hash") == 1
    assert client.hexists("meu_hash", "nome") and not client.hexists("meu_hash", "nada")
    assert client.hdel("meu_hash", "city") == 1
    assert client.delete("chave_1") == 1 and client.exists("chave_1") == 0


def time_to_live(client):
    client.set("curta", "vida", ex=10)
    assert 0 < client.ttl("curta") <= 10
    client.set("mais curta", "vida", px=100)
    client.hset("hash que expira", "a", 1)
    client.expire("hash que expira", 30)
    client.hset("hash que expira", "b", 2)
    assert 0 < client.ttl("hash que expira") <= 30
    client.pexpire("hash que expira", 150)
    wait_until(lambda: client.get("mais curta") is None, "a key outlives its deadline")
    wait_until(lambda: client.exists("hash que expira") == 0, "a hash outlives its deadline")


def repository():
    repository = Repository(Connection.get())
    repository.insert("r:1", 3.21)
    assert repository.get("r:1") == "3.21"
    repository.insert_hash("r:h", "campo", "valor")
    assert repository.get_hash("r:h", "campo") == "valor"
    assert repository.get("r:nobody") is None
    repository.insert_ex("r:2", "x", 10)
    repository.insert_hash_ex("r:h2", "campo", "valor", 10)
    assert 0 < Connection.get().ttl("r:2") <= 10 and 0 < Connection.get().ttl("r:h2") <= 10
    assert Connection.get() is Connection.get()


def cache_aside(client, database, parameter):
    """Rows of a database, of which `parameter` is the placeholder."""
    rows = database.cursor()
    rows.execute("drop table if exists people")
    rows.execute("create table people (name varchar(100) primary key, age integer)")
    rows.execute("insert into people values ('Minevaldo', 41)")
    client.delete("user:Minevaldo")
    asked = []

    def find(name, ttl_ms):
        cached = client.get(f"user:{name}")
        if cached is not None:
            return int(cached)
        asked.append(name)
        rows.execute(f"select age from people where name = {parameter}", (name,))
        (age,) = rows.fetchone()
        client.set(f"user:{name}", age, px=ttl_ms)
        return age

    assert find("Minevaldo", 200) == 41 and len(asked) == 1
    assert find("Minevaldo", 200) == 41
    wait_until(lambda: client.get("user:Minevaldo") is None, "a row outlives its deadline")
    assert find("Minevaldo", 10_000) == 41 and asked[-1] == "Minevaldo" and len(asked) >= 2
    assert 0 < client.ttl("user:Minevaldo") <= 10
    # What the database says by now is seen once the row has left the cache, and not before.
    rows.execute("update people set age = 42")
    assert find("Minevaldo", 10_000) == 41
    client.delete("user:Minevaldo")
    assert find("Minevaldo", 10_000) == 42
    database.close()


def pipelines_and_messages(client):
    with client.pipeline() as pipe:
        pipe.set("p", 1)
        pipe.incr("p")
        pipe.hset("ph", mapping={"a": 1, "b": 2})
        assert pipe.execute() == [True, 2, 2]
    with client.pipeline() as pipe:
        pipe.watch("p")
        Connection.get().set("p", 9)
        pipe.multi()
        pipe.set("p", 10)
        try:
            pipe.execute()
            raise AssertionError("a watched key was changed")
        except redis.WatchError:
            pass
    listener = client.pubsub()
    listener.subscribe("news")
    assert listener.get_message(timeout=5)["type"] == "subscribe"
    assert client.publish("news", "olá") == 1
    assert listener.get_message(timeout=5)["data"].decode() == "olá"
    listener.close()
    lock = client.lock("a lock", timeout=5)
    assert lock.acquire(blocking=False)
    assert sorted(client.scan_iter("p*")) == [b"p", b"ph", "preço".encode()]


PORT, PROTOCOL, MARIADB_PORT = map(int, sys.argv[1:])
client = Connection.get()
client.flushall()
strings_and_hashes(client)
time_to_live(client)
repository()
cache_aside(client, sqlite3.connect(":memory:"), "?")
mariadb = pymysql.connect(host="127.0.0.1", port=MARIADB_PORT, user="root", database="test", autocommit=True)
cache_aside(client, mariadb, "%s")
pipelines_and_messages(client)
print(f"redis-py {redis.__version__}, protocol {PROTOCOL}; a cache before SQLite and MariaDB")
