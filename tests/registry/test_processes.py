"""Several real processes at one registry, on each database."""

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from octo_pipeline.registry.records import Decision
from octo_pipeline.registry.store import Registry

Sql = Callable[[str], Sequence[Any]]
Start = Callable[..., "subprocess.Popen[str]"]


def go(*processes: "subprocess.Popen[str]") -> None:
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def result(process: "subprocess.Popen[str]") -> Any:
    output, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return json.loads(output)


def test_four_processes_make_the_registry_and_lose_no_decision(registry: Registry, start: Start) -> None:
    processes = [start("one_by_one", name, 50) for name in "abcd"]
    go(*processes)

    assert [result(process) for process in processes] == [50, 50, 50, 50]

    decisions = registry.decisions()
    assert len({decision.item_id for decision in decisions}) == 200
    events = registry.audit(limit=1_000)[::-1]
    assert [event.details["first_decision"] for event in events] == list(range(1, 201))
    assert [event.subject for event in events] == [decision.item_id for decision in decisions]


def test_of_two_processes_that_restore_an_item_one_wins(registry: Registry, start: Start) -> None:
    processes = [start("race", 25), start("race", 25)]
    go(*processes)
    first, second = (result(process) for process in processes)

    assert sorted(first["won"] + second["won"]) == list(range(25))
    refusals = first["refusals"] + second["refusals"]
    assert len(refusals) == 25
    assert all(" restored it at " in refusal for refusal in refusals)
    assert len(registry.decisions()) == len(registry.audit(limit=100)) == 25


def test_a_reader_sees_a_write_whole_or_not_at_all(
    registry: Registry, decide: Callable[..., Decision], start: Start
) -> None:
    registry.record_decisions([decide()])
    reader, writer = start("watch", 20_001), start("at_once", "bulk", 20_000)
    go(reader)
    assert reader.stdout is not None
    assert reader.stdout.readline() == "watching\n"
    go(writer)

    assert result(writer) == 20_000
    # Between its two reads the write may end, so the events may be one ahead.
    assert [seen for seen in result(reader) if seen != [1, 2]] == [[1, 1], [20_001, 2]]


def test_a_process_killed_while_it_writes_leaves_nothing_of_it(
    registry: Registry, decide: Callable[..., Decision], start: Start, sql: Sql, url: str
) -> None:
    registry.record_decisions([decide()])
    writer = start("at_once", "killed", 200_000)
    go(writer)
    wait_until_it_writes(writer, sql, url)
    os.kill(writer.pid, signal.SIGKILL)
    writer.wait()

    assert [item.item_id for item in registry.restored_items()] == ["a" * 32]
    assert len(registry.audit()) == 1
    assert registry.record_decisions([decide("b" * 32)]) == 1
    assert [event.details["first_decision"] for event in registry.audit()] == [2, 1]


def wait_until_it_writes(writer: "subprocess.Popen[str]", sql: Sql, url: str) -> None:
    file = Path(url.removeprefix("sqlite:///"))
    for _ in range(1_200):
        assert writer.poll() is None, "the writer ended before it could be killed"
        if url.startswith("sqlite") and file.stat().st_size > 1_000_000:
            return
        if url.startswith("postgresql") and sql("SELECT 1 FROM pg_locks WHERE locktype = 'advisory'"):
            # The rows come after the lock, and no other session can see them.
            time.sleep(0.5)
            return
        time.sleep(0.05)
    raise AssertionError("the writer did not begin")
