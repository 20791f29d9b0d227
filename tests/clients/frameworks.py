"""Django's cache and Flask-Caching, as their documentation configures them: frameworks.py PORT."""

import sys
import time

import django
import flask
import flask_caching
from django.conf import settings

PORT = int(sys.argv[1])


def django_cache():
    url = f"redis://127.0.0.1:{PORT}/1"
    settings.configure(CACHES={"default": {"BACKEND": "django.core.cache.backends.redis.RedisCache", "LOCATION": url}})
    django.setup()
    from django.core.cache import cache

    cache.clear()
    cache.set("k", {"nome": "thailan", "notas": [1, 2]}, 30)
    assert cache.get("k") == {"nome": "thailan", "notas": [1, 2]}
    assert cache.add("k", 1) is False and cache.add("n", 1, 30) is True
    assert cache.incr("n", 4) == 5 and cache.has_key("n")
    cache.set_many({"a": 1, "b": "dois"}, 30)
    assert cache.get_many(["a", "b", "c"]) == {"a": 1, "b": "dois"}
    assert cache.touch("a", 60) and cache.delete("a") and cache.get("a") is None
    cache.set("gone", 1, 0.05)
    time.sleep(0.3)
    assert cache.get("gone", "nothing") == "nothing"
    assert cache.get_or_set("made", lambda: "once", 30) == "once"
    cache.clear()
    assert cache.get("k") is None
    return f"Django {django.get_version()}"


def flask_cache():
    app = flask.Flask("story")
    app.config.update(CACHE_TYPE="RedisCache", CACHE_REDIS_HOST="127.0.0.1", CACHE_REDIS_PORT=PORT, CACHE_REDIS_DB=2)
    cache = flask_caching.Cache(app)
    calls = []
    with app.app_context():
        cache.clear()

        @cache.memoize(30)
        def slow(number):
            calls.append(number)
            return number * 2

        assert slow(21) == 42 and slow(21) == 42 and calls == [21]
        cache.delete_memoized(slow)
        assert slow(21) == 42 and calls == [21, 21]
        assert cache.add("k", "v") and not cache.add("k", "w")
        assert cache.get_many("k", "nobody") == ["v", None]
        cache.clear()
        assert cache.get("k") is None
    return "Flask-Caching"


print(django_cache() + ", " + flask_cache())
