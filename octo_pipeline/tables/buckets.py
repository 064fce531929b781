"""The line items of a payer that is too large for one task, made by many: a task per landed file, then a task per bucket.

1. *look up*: what the rows of one file need to know of the other files.
2. *map*: a task reads one landed file, makes its charges and sums them up as far as they go. Its file is sorted by bucket, so its
   row groups are an index.
3. *reduce*: a task reads one bucket of all those files and makes its line items by the same model that makes those of a small
   payer at once, for a sum of sums is the sum.

Lines that fold into one row have one bucket, wherever they were (``sql/buckets.sql.j2``). What could go wrong in between is
proved: each row is in its bucket, no row is missing, no file is missing or of another run, and what all buckets add up to is
what the files say was billed.
"""

import uuid
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from octo_pipeline.allocation.proofs import prove
from octo_pipeline.engine.engine import Engine, Payload
from octo_pipeline.engine.worker import task_settings
from octo_pipeline.lake.joined_file import METADATA_KEY
from octo_pipeline.lake.lake import Lake, PartitionMetadata, copy_rows, rows_of_files
from octo_pipeline.lake.store import Location
from octo_pipeline.model.columns import (
    LINE_ITEM_ATTRIBUTES,
    LINE_ITEM_GRAIN,
    LINE_ITEM_MEASURES,
    LINE_ITEMS,
    MONEY,
    TAGS,
)
from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.sql import Relation, Sql, literal, rows_sql
from octo_pipeline.model.templates import render
from octo_pipeline.tables.dbt import model_query
from octo_pipeline.tables.landed_charges import (
    CHARGE_MODELS,
    SOURCE_COSTS,
    charges_of,
    explanation,
    landed_delivery,
    landed_relations,
    no_charges,
    source_sums_of,
)
from octo_pipeline.tables.parts import SOURCE_SUMS, SourceSum, bucket_count, bucket_names, source_sums_sql
from octo_pipeline.vendors.landing import Delivery
from octo_pipeline.workspace import Workspace

# Files between map and reduce. They are removed at the end.
_MAPPED = "mapped_charges"
_AWS = "aws"
_RESERVATIONS = "main.stg_aws__reservations"
# The grain before tags are maps.
_GRAIN = [f"{name}_json" if kind == TAGS else name for name, kind in LINE_ITEM_GRAIN.items()]
_SUMMED = [name for name, kind in LINE_ITEM_MEASURES.items() if kind == MONEY]

# Payer, ARN and offering class of a reservation.
OfferClasses = list[list[str]]


class Buckets(NamedTuple):
    """The line items of a payer.

    Attributes:
        files: the names of the kept parts, in the order of their buckets.
        source_sums: what the files say was billed, by invoice.
    """

    files: list[str]
    source_sums: list[SourceSum]


def offer_classes(workspace: Workspace, engine: Engine, month: str, delivery: Delivery) -> OfferClasses:
    """The offering class of each reservation of a payer, which a line may have in another file: by tasks.

    Raises:
        OctoError: a file cannot be read, or a task failed.
    """
    classes: dict[tuple[str, str], str] = {}
    for result in engine.map(look_up, _files(workspace, month, delivery)):
        for payer, arn, offer_class in result["offer_classes"]:
            classes[payer, arn] = max(classes.get((payer, arn), ""), offer_class)
    return [[*reservation, offer_class] for reservation, offer_class in classes.items()]


def with_offer_classes(relations: Mapping[str, str], classes: OfferClasses) -> dict[str, str]:
    """Relations for `octo_pipeline.tables.dbt.model_query` in which the reservations are those that were looked up."""
    columns = dict.fromkeys(("billing_account_id", "reservation_arn", "offer_class"), "VARCHAR")
    return {**relations, _RESERVATIONS: rows_sql(columns, classes)}


def make_in_buckets(
    workspace: Workspace,
    engine: Engine,
    month: str,
    delivery: Delivery,
    *,
    name: str,
    count: int | None = None,
) -> Buckets:
    """Make and prove the line items of a payer by tasks, and keep them as parts of the month.

    Args:
        workspace: its lake has the delivery, and is where the tasks find it.
        engine: what runs the tasks.
        month: the month.
        delivery: one of AWS.
        name: what the names of the parts begin with.
        count: how many buckets; by the size of the files if None.

    Raises:
        OctoError: a file cannot be read, or a task failed.
        ProofError: something was lost on the way.
    """
    lake, run = workspace.lake, uuid.uuid4().hex
    count = count or bucket_count(delivery)
    classes = offer_classes(workspace, engine, month, delivery)
    shared: Payload = {"settings": workspace.settings.for_tasks(), "month": month, "run": run, "buckets": count}
    files = [
        shared | file | {"part": f"{run}-{number:05}", "offer_classes": classes}
        for number, file in enumerate(_files(workspace, month, delivery))
    ]
    names = bucket_names(name, count)
    try:
        mapped = engine.map(map_file, files)
        rows = sum(result["rows"] for result in mapped)
        source_sums = added_up(total for result in mapped for total in result["source_sums"])
        shared["mapped"] = [file["part"] for file in files]
        # Whoever finds the files later knows by the first one what the landed files bill.
        facts = [{SOURCE_SUMS: source_sums}] + [{}] * (count - 1)
        reduced = engine.map(
            reduce_bucket,
            [shared | {"bucket": n, "part": part, "facts": facts[n]} for n, part in enumerate(names)],
        )
    finally:
        lake.drop_parts(_MAPPED, month, but=[])
    try:
        _prove(lake, month, source_sums, reduced, rows)
    except OctoError:
        lake.drop_parts(LINE_ITEMS, month, but=lake.parts(LINE_ITEMS, month).keys() - names)
        raise
    return Buckets(names, source_sums)


def _files(workspace: Workspace, month: str, delivery: Delivery) -> list[Payload]:
    """The part of a payload that says which landed file a task reads."""
    named = {"month": month, "account": delivery.account, "version": delivery.version}
    settings = workspace.settings.for_tasks()
    return [named | {"settings": settings, "file": number} for number in range(len(delivery.files))]


def look_up(payload: Payload) -> Payload:
    """The offering classes of a file's reservations: a task.

    Returns:
        ``{"offer_classes": [[payer, ARN, class]]}``.
    """
    lake = _lake(payload)
    with lake.connect() as connection, lake.staging_folder() as scratch:
        relations, _ = landed_relations(connection, [_file(lake, payload)], scratch)
        query = render("tables/offer_classes", reservations_query=model_query(_RESERVATIONS, relations))
        return {"offer_classes": connection.execute(query).fetchall()}


def map_file(payload: Payload) -> Payload:
    """Write the charges of one landed file, sorted by bucket: a task.

    Returns:
        The number of ``rows`` in it, and the ``source_sums`` of the landed file.
    """
    lake, month = _lake(payload), payload["month"]
    delivery = _file(lake, payload)
    with lake.connect() as connection, lake.staging_folder() as scratch:
        try:
            relations, source_costs = landed_relations(connection, [delivery], scratch)
            relations = with_offer_classes(relations, payload["offer_classes"])
            (model,) = charges_of({_AWS})
            query = render(
                "tables/mapped_charges",
                charges=model_query(f"main.{model}", relations),
                grain=_GRAIN,
                greatest_columns=list(LINE_ITEM_ATTRIBUTES),
                summed_columns=_SUMMED,
                bucket_count=payload["buckets"],
            )
            made = scratch / "mapped.parquet"
            rows = _copy(connection, query, made, month, payload["run"])
            source_invoices = Relation(f"({render('tables/source_invoices', source_costs=source_costs)})")
            sums = source_sums_of(connection, source_invoices)
        except duckdb.Error as error:
            raise explanation(connection, [delivery], error) from error
        lake.keep_part(made, _MAPPED, month, payload["part"])
    return {
        "rows": rows,
        "source_sums": sums,
    }


def reduce_bucket(payload: Payload) -> Payload:
    """Write the line items of one bucket: a task.

    Returns:
        The ``rows`` that it read, and the ``sums`` of what it wrote: vendor, payer, currency, cost and number of lines.

    Raises:
        OctoError: a file is missing or of another run, or a row is in a bucket that is not its own.
    """
    lake, month, number = _lake(payload), payload["month"], payload["bucket"]
    kept = lake.parts(_MAPPED, month)
    if missing := sorted(set(payload["mapped"]) - kept.keys()):
        raise OctoError(
            f"{len(missing)} of {len(payload['mapped'])} files of charges of {month} are missing, such as {missing[0]}.",
            code="charges-missing",
            place=missing[0],
        )
    files = [kept[name] for name in payload["mapped"]]
    mapped = rows_of_files(files)
    with lake.connect() as connection, lake.staging_folder() as scratch:
        _require_run(connection, files, payload["run"])
        query = render(
            "tables/bucket_sums",
            mapped=mapped,
            grain=_GRAIN,
            bucket_number=number,
            bucket_count=payload["buckets"],
        )
        sums = connection.execute(query).fetchall()
        if strangers := sum(total[-1] for total in sums):
            raise OctoError(
                f"{strangers} rows of charges of {month} are in bucket {number} and belong in another one.",
                code="bucket-wrong",
                place=str(number),
            )
        charges = render("tables/bucket_rows", mapped=mapped, bucket_number=number)
        model, *others = sorted(CHARGE_MODELS)
        relations = {f"main.{other}": no_charges() for other in others} | {f"main.{model}": charges}
        made = scratch / "reduced.parquet"
        _copy(connection, model_query(f"main.{LINE_ITEMS}", relations), made, month, payload["run"], payload["facts"])
        written = connection.execute(render("tables/payer_sums", line_items=rows_of_files([made]))).fetchall()
        lake.keep_part(made, LINE_ITEMS, month, payload["part"])
    return {"rows": sum(total[-2] for total in sums), "sums": [list(total) for total in written]}


def _lake(payload: Payload) -> Lake:
    return Workspace(task_settings(payload["settings"])).lake


def _file(lake: Lake, payload: Payload) -> Delivery:
    """The delivery of a task, with only the file of the task."""
    delivery = landed_delivery(lake, payload["month"], _AWS, payload["account"], payload["version"])
    return replace(delivery, files=(delivery.files[payload["file"]],))


def _copy(
    connection: duckdb.DuckDBPyConnection, query: Sql, file: Path, month: str, run: str, facts: Payload | None = None
) -> int:
    """Write the rows of a query, and return how many they are."""
    connection.execute(f"SET VARIABLE octo_month = {literal(month)}")
    return copy_rows(connection, query, file, PartitionMetadata({}, run, facts or {}))


def _require_run(connection: duckdb.DuckDBPyConnection, files: Sequence[Location], run: str) -> None:
    """Refuse files of another run: the month may have been made twice at once, of different deliveries."""
    paths = Sql(f"[{', '.join(literal(str(file)) for file in files)}]")
    query = render("tables/runs_of_files", paths=paths, metadata_key=METADATA_KEY)
    for file, made_by in connection.execute(query).fetchall():
        if made_by != run:
            raise OctoError(
                f"The charges in {file} are of another run of the month. Run it again.",
                code="charges-of-another-run",
                place=file,
            )


def added_up(sums: Iterable[SourceSum]) -> list[SourceSum]:
    """The same without rows of which only cost and number of lines differ."""
    added: dict[tuple[Any, ...], tuple[Decimal, int]] = defaultdict(lambda: (Decimal(0), 0))
    for *texts, cost, lines in sums:
        before = added[tuple(texts)]
        added[tuple(texts)] = before[0] + Decimal(cost), before[1] + lines
    # As DuckDB writes it: Python has another text for 0.
    return [[*texts, f"{cost:f}", lines] for texts, (cost, lines) in added.items()]


def _prove(lake: Lake, month: str, source_sums: Sequence[SourceSum], reduced: Sequence[Payload], rows: int) -> None:
    """Prove that the buckets have all rows and all costs.

    Raises:
        OctoError: a bucket read fewer or more rows than there are.
        ProofError: the costs or lines of a payer differ from the files'.
    """
    if (read := sum(result["rows"] for result in reduced)) != rows:
        raise OctoError(
            f"The buckets of {month} have {read} rows of charges, and its files {rows}.",
            code="buckets-incomplete",
            place=month,
        )
    texts = dict.fromkeys(("vendor", "billing_account_id", "billing_currency"), "VARCHAR")
    totals = {"billed_cost": MONEY, "line_count": "BIGINT"}
    staged = rows_sql(texts | totals, [total for result in reduced for total in result["sums"]])
    with lake.connect() as connection:
        prove(
            connection,
            LINE_ITEMS,
            month,
            [SOURCE_COSTS],
            staged=Relation(f"({staged})"),
            source_invoices=Relation(f"({source_sums_sql(source_sums)})"),
        )
