"""DuckDB's in-memory instances of this process, which connections with the same settings share.

Starting one takes about ten milliseconds, a connection to one a fraction of that; a month is made, checked or shown by dozens
of connections. They share memory and threads and nothing else: temporary tables belong to a connection.
"""

import os
from collections import OrderedDict
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock

import duckdb

Config = Mapping[str, str | bool | int | float | list[str]]

# More are rarely used at once, and each has threads of its own.
_MOST = 2
_lock = Lock()
_instances: OrderedDict[tuple[object, ...], duckdb.DuckDBPyConnection] = OrderedDict()


@contextmanager
def shared_connection(config: Config) -> Iterator[duckdb.DuckDBPyConnection]:
    """A connection to the instance with these settings, which is started if there is none.

    What the connection makes must be temporary, and what it sets must be of its session.
    """
    connection = open_shared(config)
    try:
        with without_broken(config):
            yield connection
    finally:
        connection.close()


def open_shared(config: Config) -> duckdb.DuckDBPyConnection:
    """The same connection, which its user closes; statements are executed in `without_broken`."""
    key = _key(config)
    with _lock:
        instance = _instances.pop(key, None) or _started(config)
        _instances[key] = instance
        while len(_instances) > _MOST:
            # It ends with the last of its connections; closing it would close those that are in use.
            _instances.popitem(last=False)
        return instance.cursor()


@contextmanager
def without_broken(config: Config) -> Iterator[None]:
    """Forget the instance with these settings if it breaks: after such an error it refuses whatever it is asked."""
    try:
        yield
    except (duckdb.FatalException, duckdb.InternalException):
        with _lock:
            _instances.pop(_key(config), None)
        raise


def _key(config: Config) -> tuple[object, ...]:
    # A forked process has the memory of its parent's instances, but not their threads.
    return (os.getpid(), *sorted((name, str(value)) for name, value in config.items()))


def _started(config: Config) -> duckdb.DuckDBPyConnection:
    # What is kept of files is told from new ones by their time alone, which is not exact enough for files that are replaced.
    return duckdb.connect(config={**config, "enable_external_file_cache": "false"})
