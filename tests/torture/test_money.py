"""Random amounts of every size, sign and currency: what is handed out is what was billed, to the last place."""

import duckdb

from octo_pipeline.lake.lake import Lake, PartitionMetadata
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, TAGS
from octo_pipeline.settings import Settings
from octo_pipeline.tables.table import materialise
from octo_pipeline.workspace import Workspace
from tests.support.reports import write_json
from tests.support.tables import ALLOCATION_TABLES
from tests.torture.chance import SEED, pick

MONTHS = ["2024-01", "2024-02", "2024-03"]
# From 10⁻¹⁰ to 10¹⁵, as whole numbers of 10⁻¹⁰.
_SIZES = 26
_UNITS = "(billed_cost * 10000000000::DECIMAL(11,0))::HUGEINT"
_COST_UNITS = "(cost * 10000000000::DECIMAL(11,0))::HUGEINT"
INSTALMENTS = [
    {"type": "account", "value": "account-1", "formula": "cost*usage", "months": 3},
    {"type": "account", "value": "account-2", "formula": "cost/7"},
    {"type": "account", "value": "account-3", "formula": "usage > 0.2 ? cost*usage : -cost*2", "months": 2},
    {"type": "payer", "value": "payer", "formula": "round(cost*usage, 2)", "months": 3},
]
# The ends of the descriptions that an allocator takes, and what it does with them. Instalments for ten accounts make a
# hundred rows of an item, so of ten million items it is every hundredth that is paid so.
ALLOCATORS = {
    "instalments": (pick("1", "11"), INSTALMENTS),
    "at-once": ("[2-8]", [{"type": "account", "value": "account-2", "formula": "cost/7"}]),
}


def random_items(count: int) -> str:
    """A query of so many line items: fees of distinct descriptions, and usage of ten accounts."""

    def drawn(what: str) -> str:
        return f"(hash(i, '{what}', {SEED}) % 1000000007)::BIGINT"

    powers = f"[{', '.join(str(10**power) for power in range(_SIZES))}]::HUGEINT[]"
    units = (
        f"CASE WHEN {drawn('zero')} % 50 = 0 THEN 0::HUGEINT ELSE (1 - 2 * ({drawn('sign')} % 2)::INT)::HUGEINT * "
        f"((1 + {drawn('digit')} % 9)::HUGEINT * ({powers})[1 + {drawn('size')} % {_SIZES - 1}] "
        f"+ ({drawn('rest')} % 997)::HUGEINT) END"
    )
    values = dict.fromkeys(LINE_ITEM_COLUMNS, "NULL") | {
        "billing_month": f"'{MONTHS[0]}'",
        "vendor": "'aws'",
        "billing_account_id": "'payer'",
        "sub_account_id": f"'account-' || {drawn('account')} % 10",
        "usage_date": f"DATE '{MONTHS[0]}-15'",
        "line_type": "'Line'",
        "charge_category": "CASE WHEN i % 10 = 0 THEN 'Usage' ELSE 'Purchase' END",
        "charge_description": "'item ' || i",
        "service_code": "'service'",
        "billing_currency": f"CASE WHEN {drawn('currency')} % 2 = 0 THEN 'USD' ELSE 'JPY' END",
        "tags": f"MAP {{}}::{TAGS}",
        "project_labels": f"MAP {{}}::{TAGS}",
        "consumed_quantity": "0",
        "line_count": "1",
        **dict.fromkeys(("billed_cost", "effective_cost", "list_cost"), "amount"),
    }
    selected = ", ".join(f"({values[name]})::{kind} AS {name}" for name, kind in LINE_ITEM_COLUMNS.items())
    amount = f"(({units})::DECIMAL(28,0) * 0.0000000001::DECIMAL(10,10))"
    return f"SELECT {selected} FROM (SELECT i, {amount} AS amount FROM range({count}) AS drawn(i))"


def publish(lake: Lake, connection: duckdb.DuckDBPyConnection, version: str) -> None:
    """Make the items the month's line items; to digest ten million of them would take longer than all the rest."""
    inputs = {"content": version}
    with lake.stage("cost_line_items", MONTHS[0]) as staged:
        lake.copy(connection, "FROM items", staged, PartitionMetadata(inputs, "test"))
        lake.publish(staged, still_current=lambda: inputs)


def test_what_is_handed_out_is_what_was_billed(tmp_path):
    count = pick(30_000, 10_000_000)
    (tmp_path / "config" / "cost_groups").mkdir(parents=True)
    for name, (items, entries) in ALLOCATORS.items():
        criteria = [{"and": {"description": f"re:^item .*{items}$"}}]
        document = {"startMonth": MONTHS[0], "criteria": criteria, "allocator": entries, "defaultAccount": "rest"}
        write_json(tmp_path / "config" / "allocators" / f"{name}.json", document)
    rates = "".join(f"{month},JPY,0.0067\n" for month in MONTHS)
    (tmp_path / "config" / "exchange_rates.csv").write_text(f"month,currency,rate\n{rates}")
    workspace = Workspace(Settings(lake=str(tmp_path / "lake"), config=tmp_path / "config", memory_limit="2GB"))
    with duckdb.connect() as connection:
        connection.execute(f"CREATE VIEW items AS {random_items(count)}")
        publish(workspace.lake, connection, f"{SEED}/{count}")
    for month in MONTHS:
        for table in ALLOCATION_TABLES:
            materialise(workspace, table, month)
    with duckdb.connect(config={"temp_directory": str(tmp_path / "spilled")}) as connection:
        rows = f"read_parquet('{tmp_path}/lake/allocations/*/data.parquet')"
        matched = f"read_parquet('{tmp_path}/lake/matched_items/*/data.parquet')"
        # Drawn anew: what was billed is not read from what the program has read.
        connection.execute(
            f"CREATE TABLE billed AS SELECT charge_description, billing_currency, {_UNITS} AS units "
            f"FROM ({random_items(count)}) WHERE charge_category <> 'Usage'"
        )
        # The digits that are drawn must be there, or the test would prove nothing.
        (extremes,) = connection.execute(
            "SELECT min(abs(units)) FILTER (units <> 0), max(abs(units)), count(*) FILTER (units = 0) FROM billed"
        ).fetchall()
        assert extremes[0] < 2_000
        assert extremes[1] >= 10**24
        assert extremes[2] > 0
        connection.execute(
            f"CREATE TABLE handed_out AS SELECT item_id, sum({_COST_UNITS}) FILTER (kind = 'item') AS listed, "
            f"sum({_COST_UNITS}) FILTER (kind <> 'item') AS units FROM {rows} GROUP BY item_id"
        )
        # Each item by itself: sums could hide one error in another.
        (found,) = connection.execute(
            "SELECT count(*), count(*) FILTER (listed IS DISTINCT FROM billed.units), count(handed_out.units), "
            "count(*) FILTER (handed_out.units <> billed.units) FROM handed_out "
            f"JOIN (SELECT item_id, charge_description, billing_currency FROM {matched} WHERE category = 'fee') USING (item_id) "
            "JOIN billed USING (charge_description, billing_currency)"
        ).fetchall()
        ((fees,),) = connection.execute("SELECT count(*) FROM billed").fetchall()
    listed, wrongly_listed, booked, wrongly_booked = found
    assert (listed, wrongly_listed, wrongly_booked) == (fees, 0, 0)
    # Seven of ten are taken at once; what costs nothing has no rows of its own.
    assert booked > count * 0.68
