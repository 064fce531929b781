"""A month of several payers: only the parts of payers that changed are made again, and the month is the same as at once."""

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from octo_pipeline.cli.progress import show_months
from octo_pipeline.lake.lake import Lake
from octo_pipeline.model.columns import LINE_ITEM_COLUMNS
from octo_pipeline.services.sources import folder_source
from octo_pipeline.settings import Settings
from octo_pipeline.tables import cost_line_items, parts
from octo_pipeline.tables.cost_line_items import INVOICES, CostLineItems
from octo_pipeline.tables.landed_charges import landed_delivery
from octo_pipeline.tables.table import Materialised, materialise
from octo_pipeline.vendors.aws.cur import land_cur
from octo_pipeline.vendors.downloads import DeliveredFile
from octo_pipeline.vendors.landing import DESCRIPTION, Delivery, land
from octo_pipeline.workspace import Workspace
from tests.support import focus_files
from tests.support.reports import NOW, PARQUET_ROW, refused, source_file, write_parquet

MONTH = "2024-01"
TABLE = CostLineItems.name
PAYERS = [f"9000000000{number:02}" for number in range(7)]
RESERVATION = "'arn:aws:ec2:eu-west-1:1:reserved-instances/1'"


@pytest.fixture(autouse=True)
def made(monkeypatch) -> list[str]:
    """The payers of which parts were made, in turn; any month of several payers is made by parts."""
    units: list[str] = []
    make_part = cost_line_items.make_part

    def recorded(payload):
        units.append(" ".join(account for _, account, *_ in payload["deliveries"]))
        return make_part(payload)

    monkeypatch.setattr(cost_line_items, "_LEAST_BYTES", 0)
    monkeypatch.setattr(parts, "PART_BYTES", 0)
    monkeypatch.setattr(cost_line_items, "make_part", recorded)
    return units


def rows_of(payer: str, *costs: str, **changes: str) -> list[dict[str, str]]:
    row = PARQUET_ROW | {"bill_payer_account_id": f"'{payer}'", "bill_invoice_id": f"'I{payer}'"} | changes
    return [row | {"line_item_unblended_cost": f"{cost}::DOUBLE"} for cost in costs]


def deliver(lake: Lake, folder: Path, payer: str, *costs: str, days: int = 0, **changes: str) -> None:
    """Land a payer's report with lines of these costs."""
    path = write_parquet(folder / payer / f"{days}.parquet", rows_of(payer, *costs, **changes))
    land_cur(lake.root, path, fetched_at=NOW + timedelta(days=days))


def contents(workspace: Workspace) -> tuple[object, ...]:
    """The rows in any order, the fingerprint and the facts of the month."""
    metadata = workspace.lake.metadata(TABLE, MONTH)
    with workspace.lake.connect() as connection:
        scan = workspace.lake.scan(TABLE, [MONTH], LINE_ITEM_COLUMNS)
        rows = connection.execute(f"select t::varchar from {scan} as t order by all").fetchall()
    return rows, metadata.fingerprint, metadata.facts


def run(workspace: Workspace) -> Materialised:
    return materialise(Workspace(workspace.settings), CostLineItems(), MONTH)


def from_nothing(workspace: Workspace, tmp_path: Path) -> tuple[object, ...]:
    """What the month is in a lake with the same deliveries and nothing else."""
    other = Workspace(Settings(lake=tmp_path / "other", config=workspace.settings.config))
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "landing").symlink_to(workspace.lake.root / "landing")
    run(other)
    return contents(other)


def kept(workspace: Workspace) -> set[str]:
    return set(workspace.lake.parts(TABLE, MONTH))


def test_of_several_payers_only_the_one_that_changed_is_made_again(workspace, tmp_path, made):
    for payer in PAYERS:
        deliver(workspace.lake, tmp_path, payer, "1.5", "2")
    assert (run(workspace).note, made) == ("", PAYERS)
    before = kept(workspace)

    deliver(workspace.lake, tmp_path, PAYERS[4], "1.5", "3", days=1)
    made.clear()
    event = run(workspace)
    assert (event.note, made) == (f"1 of 7 payers made again (aws {PAYERS[4]}).", [PAYERS[4]])
    assert event.changed == (f"landing/aws/{PAYERS[4]}",)
    assert len(before & kept(workspace)) == 6
    assert len(kept(workspace)) == 7

    made.clear()
    assert contents(workspace) == from_nothing(workspace, tmp_path)
    assert made == PAYERS
    facts = contents(workspace)[2]
    assert {name for name, _ in facts["parts"]} == kept(workspace)
    assert facts[INVOICES][4] == ["aws", PAYERS[4], f"I{PAYERS[4]}", "Amazon Web Services", "USD", "4.5000000000"]


def test_a_month_by_parts_is_the_month_at_once(workspace, tmp_path, monkeypatch, made):
    for payer in PAYERS[:3]:
        deliver(workspace.lake, tmp_path, payer, "1.5", "2", "2")
    run(workspace)
    rows, fingerprint, facts = contents(workspace)
    monkeypatch.setattr(cost_line_items, "_LEAST_BYTES", 1 << 40)
    made.clear()
    at_once = from_nothing(workspace, tmp_path)
    assert made == []
    del facts["parts"]
    assert (rows, fingerprint, facts) == at_once


def test_a_payer_that_is_gone_leaves_no_part(workspace, tmp_path, made):
    for payer in PAYERS[:3]:
        deliver(workspace.lake, tmp_path, payer, "1")
    run(workspace)
    made.clear()
    for path in (workspace.lake.root / "landing" / "aws" / PAYERS[0]).rglob(DESCRIPTION):
        path.unlink()
    assert (run(workspace).note, made) == ("0 of 2 payers made again.", [])
    assert len(kept(workspace)) == 2
    assert contents(workspace) == from_nothing(workspace, tmp_path)


def test_two_vendors_and_one_account_that_both_tell(workspace, tmp_path, made):
    deliver(workspace.lake, tmp_path, PAYERS[0], "1.5")
    charge = focus_files.ROW | {
        "BillingPeriodStart": "2024-01-01T00:00:00Z", "BillingPeriodEnd": "2024-02-01T00:00:00Z",
        "ChargePeriodStart": "2024-01-05T00:00:00Z", "ChargePeriodEnd": "2024-01-06T00:00:00Z",
        "BillingCurrency": "USD",
    }  # fmt: skip
    again = charge | {"ProviderName": "AWS", "BillingAccountId": PAYERS[0], "BilledCost": "1.5"}
    path = focus_files.write_csv(tmp_path / "focus" / "a.csv", charge | {"ProviderName": "Contoso"}, again)
    folder_source("focus", path.parent).land(workspace.lake.root, MONTH, NOW)
    run(workspace)
    assert [vendor for vendor, *_ in contents(workspace)[2][INVOICES]] == ["aws", "contoso"]

    # The file's rows of the payer count now: what is left out belongs to the name of a part.
    made.clear()
    for path in (workspace.lake.root / "landing" / "aws" / PAYERS[0]).rglob(DESCRIPTION):
        path.unlink()
    deliver(workspace.lake, tmp_path, PAYERS[1], "9")
    run(workspace)
    assert len(made) == 2
    assert contents(workspace) == from_nothing(workspace, tmp_path)
    assert [(vendor, payer) for vendor, payer, *_ in contents(workspace)[2][INVOICES]][:2] == [
        ("aws", PAYERS[0]),
        ("aws", PAYERS[1]),
    ]


def test_deliveries_that_bill_one_payer_are_one_unit(workspace, tmp_path, made):
    def deliver_as(account: str, version: str, cost: str) -> None:
        data = write_parquet(tmp_path / f"{account}{version}.parquet", rows_of(PAYERS[0], cost)).read_bytes()
        land(
            workspace.lake.root, vendor="aws", account=account, month=MONTH, version=version, format="parquet",
            report="r", source="s", files=[source_file("a.parquet", data)], fetched_at=NOW + timedelta(days=int(version)),
        )  # fmt: skip

    for account in ("a", "b"):
        deliver_as(account, "1", "1.25")
    deliver(workspace.lake, tmp_path, PAYERS[1], "5")
    run(workspace)
    assert sorted(made) == sorted(["a", "b", PAYERS[1], "a b"])
    assert [count for _, count in contents(workspace)[2]["parts"]] == [1, 1]

    made.clear()
    deliver_as("b", "2", "1.75")
    assert run(workspace).note == "2 of 3 payers made again (aws a, aws b)."
    assert made == ["a", "b", "a b"]
    assert contents(workspace) == from_nothing(workspace, tmp_path)
    assert contents(workspace)[2][INVOICES][0][-1] == "3.0000000000"


def test_the_offering_class_of_a_reservation_is_that_of_its_payer(workspace, tmp_path):
    for payer, offer_class in zip(PAYERS, ("standard", "convertible"), strict=False):
        deliver(workspace.lake, tmp_path, payer, "1", reservation_reservation_arn=RESERVATION,
                pricing_offering_class=f"'{offer_class}'")  # fmt: skip
    run(workspace)
    with workspace.lake.connect() as connection:
        scan = workspace.lake.scan(TABLE, [MONTH], LINE_ITEM_COLUMNS)
        rows = connection.execute(f"select billing_account_id, offer_class from {scan} order by all").fetchall()
    assert rows == [(PAYERS[0], "standard"), (PAYERS[1], "convertible")]


@pytest.mark.slow
def test_parts_of_a_lake_in_a_bucket(workspace, tmp_path, monkeypatch, s3_server, made):
    for name, value in s3_server.environment.items():
        monkeypatch.setenv(name, value)
    settings = Settings(
        lake=f"s3://{s3_server.bucket()}/lake", temp=tmp_path / "temp", config=workspace.settings.config
    )
    in_bucket = Workspace(settings)
    for payer in PAYERS[:2]:
        deliver(in_bucket.lake, tmp_path, payer, "1.5", "2")
        deliver(workspace.lake, tmp_path, payer, "1.5", "2")
    run(in_bucket)
    deliver(in_bucket.lake, tmp_path, PAYERS[1], "9", days=1)
    deliver(workspace.lake, tmp_path, PAYERS[1], "9", days=1)
    made.clear()
    assert run(in_bucket).note == f"1 of 2 payers made again (aws {PAYERS[1]})."
    run(workspace)
    assert contents(in_bucket) == contents(workspace)
    assert kept(in_bucket) == kept(workspace)


def delivery(account: str, size: int) -> Delivery:
    file = DeliveredFile("a.parquet", size, "")
    return Delivery("aws", account, MONTH, "v", "parquet", "r", (file,), NOW, "s", Path("/nowhere"))


def test_small_payers_are_made_together_and_stay_together(monkeypatch):
    monkeypatch.setattr(parts, "PART_BYTES", 100)
    small = [delivery(f"{number:03}", 10) for number in range(160)]
    units = parts.units_of([delivery("large", 100), *small])
    assert [len(unit) for unit in units if unit[0].account == "large"] == [1]
    assert 12 <= len(units) <= 17
    assert sum(len(unit) for unit in units) == 161
    grown = parts.units_of([delivery("large", 999), *small[:-1], delivery("159", 60)])
    accounts = [[[d.account for d in unit] for unit in all_units] for all_units in (units, grown)]
    assert accounts[0] == accounts[1]
    assert parts.units_of(small[:9]) == [small[:9]]


def test_units_that_share_a_payer_are_one():
    a, b, c, d = (delivery(account, 1) for account in "abcd")
    assert parts.merged_units([[a], [b], [c], [d]], ["x", "yz", "z", "xw"]) == [[a, d], [b, c]]


def remove(path: Path) -> None:
    path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-20])


def overwrite(path: Path) -> None:
    """Damage that no footer tells of."""
    data = bytearray(path.read_bytes())
    data[4:200] = bytes(196)
    path.write_bytes(data)


@pytest.mark.parametrize(("damage", "again"), [(remove, 2), (cut, 2), (overwrite, 3)])
def test_a_part_that_is_gone_or_damaged_is_made_again(workspace, tmp_path, made, damage: Callable, again):
    for payer in PAYERS[:3]:
        deliver(workspace.lake, tmp_path, payer, "1.5")
    run(workspace)
    deliver(workspace.lake, tmp_path, PAYERS[2], "1.75", days=1)
    unchanged = next(
        path
        for path in workspace.lake.parts(TABLE, MONTH).values()
        if f"landing/aws/{PAYERS[0]}" in workspace.lake.part_metadata(path).inputs
    )
    damage(unchanged)
    made.clear()
    run(workspace)
    assert len(made) == again
    assert contents(workspace) == from_nothing(workspace, tmp_path)


def test_what_a_killed_run_made_is_kept(workspace, tmp_path, monkeypatch, made):
    for payer in PAYERS[:3]:
        deliver(workspace.lake, tmp_path, payer, "1.5")
    monkeypatch.setattr(Lake, "join", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run(workspace)
    monkeypatch.undo()
    monkeypatch.setattr(cost_line_items, "_LEAST_BYTES", 0)
    monkeypatch.setattr(parts, "PART_BYTES", 0)
    assert len(made) == 3
    run(workspace)
    assert len(made) == 3
    assert contents(workspace) == from_nothing(workspace, tmp_path)


def test_a_delivery_that_is_removed_meanwhile_is_named(workspace):
    with refused("The delivery aws 1 2024-01 v was removed while the month was made. Run it again."):
        landed_delivery(workspace.lake, MONTH, "aws", "1", "v")


def test_octo_run_says_which_payers_were_made_again(workspace, tmp_path, capsys):
    for payer in PAYERS[:2]:
        deliver(workspace.lake, tmp_path, payer, "1.5")
    run(workspace)
    deliver(workspace.lake, tmp_path, PAYERS[1], "2", days=1)
    show_months(Workspace(workspace.settings), [MONTH])
    assert f"cost_line_items {MONTH}: 1 of 2 payers made again (aws {PAYERS[1]}).\n" in capsys.readouterr().err
