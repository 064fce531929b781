"""A month of several payers whose line items are parts, as a big month has them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import duckdb

from octo_pipeline.engine.local import LocalEngine
from octo_pipeline.lake.lake import PartitionMetadata, fingerprint
from octo_pipeline.model.columns import LINE_ITEMS
from octo_pipeline.workspace import Workspace
from tests.support.oracle import Line
from tests.support.small_month import MONTH
from tests.support.workspaces import write_lines


def publish_payers(workspace: Workspace, folder: Path, lines: Mapping[str, Sequence[Line]]) -> None:
    """Publish the line items of the payers as a concatenation of theirs; a part's name says what is in it."""
    write_lines(workspace, folder, [line for of_payer in lines.values() for line in of_payer])
    lake = workspace.lake
    line_items = f"read_parquet('{lake.path(LINE_ITEMS, MONTH)}', hive_partitioning = false)"
    contents = {payer: fingerprint({payer: str(of_payer)}) for payer, of_payer in lines.items()}
    with duckdb.connect() as connection, lake.stage(LINE_ITEMS, MONTH) as staged:
        parts = []
        for payer, content in contents.items():
            part = staged.folder / f"{content}.parquet"
            connection.execute(f"COPY (FROM {line_items} WHERE billing_account_id = '{payer}') TO '{part}'")
            parts.append(part)
        metadata = PartitionMetadata({"delivered": fingerprint(contents)}, "a test")
        lake.join(parts, staged, metadata)
        lake.publish(staged, still_current=lambda: metadata.inputs)


class CountingEngine:
    """Runs tasks in this process, and counts them by their names."""

    def __init__(self) -> None:
        self.tasks: Counter[str] = Counter()

    def map(self, task, payloads):
        self.tasks[task.__module__.rpartition(".")[2]] += len(payloads)
        return LocalEngine().map(task, payloads)
