"""A registry on each database: SQLite always, PostgreSQL where its server and driver are installed."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.pool import NullPool

from octo_pipeline.registry.records import Decision
from octo_pipeline.registry.store import Registry

DECIDED_AT = datetime(2024, 5, 1, 10, 30, tzinfo=UTC)


@pytest.fixture
def sqlite_url(tmp_path: Path) -> str:
    return f"sqlite:///{tmp_path}/lake/registry.sqlite"


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest) -> str:
    """An empty place for a registry, on each database."""
    if request.param == "sqlite":
        return str(request.getfixturevalue("sqlite_url"))
    return str(request.getfixturevalue("postgresql")())


@pytest.fixture
def registry(url: str) -> Registry:
    return Registry(url)


@pytest.fixture
def decide() -> Callable[..., Decision]:
    """Makes a decision that is right but for what is given."""

    def make(item_id: str = "a" * 32, action: str = "restore", **given: Any) -> Decision:
        values: dict[str, Any] = {
            "origin_month": "2024-01",
            "category": "fee",
            "actor": "finance",
            "reason": "billed twice",
            "decided_at": DECIDED_AT,
        }
        return Decision(action=action, item_id=item_id, **(values | given))  # type: ignore[arg-type]

    return make


@pytest.fixture
def sql(url: str) -> Callable[[str], Sequence[Any]]:
    """Runs a statement behind the registry's back."""
    engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://"), poolclass=NullPool)

    def run(statement: str) -> Sequence[Any]:
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            return result.all() if result.returns_rows else []

    return run


@pytest.fixture
def start(url: str) -> Iterator[Callable[..., "subprocess.Popen[str]"]]:
    """Starts ``worker.py`` as a process of its own, which waits for a line; what still runs is ended."""
    processes: list[subprocess.Popen[str]] = []

    def run(command: str, *arguments: object) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, Path(__file__).with_name("worker.py"), command, url, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        processes.append(process)
        return process

    yield run
    for process in processes:
        process.kill()
        process.communicate()
