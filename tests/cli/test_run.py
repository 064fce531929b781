"""`octo run` and `octo deliveries` as a user types them, in processes of their own."""

import os
import re
import subprocess
import sys
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.services.access import os_user
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.vendors.aws.sample import write_cur
from tests.emulators.aws import upload
from tests.support.reports import write_json

pytestmark = pytest.mark.slow
MONTH = "2024-01"
ALLOCATOR = """{"startMonth": "2024-01", "criteria": [{"and": {"productCode": "AWSSupportEnterprise"}}],
"allocator": [{"type": "payer", "value": "999988887777", "formula": "cost*usage"}]}"""


@pytest.fixture
def octo(tmp_path):
    for name in ("allocators", "cost_groups"):
        (tmp_path / "config" / name).mkdir(parents=True)
    (tmp_path / "config" / "allocators" / "support.json").write_text(ALLOCATOR)

    def run(*arguments: str, code: int = 0) -> str:
        environment = os.environ | {"OCTO_LAKE": str(tmp_path / "lake"), "OCTO_CONFIG": str(tmp_path / "config")}
        environment.pop("DAGSTER_HOME", None)
        program = "from octo_pipeline.cli.main import main; main()"
        done = subprocess.run(
            [sys.executable, "-c", program, *arguments], env=environment, capture_output=True, text=True
        )
        assert done.returncode == code, done.stderr
        assert "Traceback" not in done.stderr
        return done.stdout + done.stderr

    return run


def exports(folder: Path, seed: int = 7) -> Path:
    write_cur(folder, months=[MONTH], accounts=4, lines=500, seed=seed)
    return folder / "aws"


def total(tmp_path: Path) -> tuple:
    with duckdb.connect() as connection:
        return connection.execute(
            f"SELECT count(*), sum(billed_cost) FROM '{tmp_path}/lake/cost_line_items/month={MONTH}/data.parquet'"
        ).fetchone()


def test_a_month_is_run_not_run_again_and_replaced_when_it_is_delivered_anew(octo, tmp_path):
    cur = exports(tmp_path / "one")
    said = octo("run", "--month", MONTH, "--cur", str(cur))
    assert "support" in said
    assert "difference 0.0000000000" in said
    assert f"{len(TABLES)} partitions published, 0 unchanged" in said
    first = total(tmp_path)

    said = octo("run", "--month", MONTH, "--cur", str(cur))
    assert "Nothing changed since the last run, so nothing was written." in said

    said = octo("run", "--month", MONTH, "--cur", str(exports(tmp_path / "two", seed=8)))
    # All but the corrections: no month is closed.
    assert f"{len(TABLES) - 1} partitions published, 1 unchanged" in said
    assert total(tmp_path) != first
    assert "Every partition is current." in octo("stale")
    table = octo("allocations", "list", "--month", MONTH, "--status", "checked_splitted")
    assert "Splitted" in table
    assert "Unchecked" not in table
    # An item is written once, before what is booked of it.
    fees = [block for block in table.split("\n\n") if "taken by support" in block]
    assert all(len(re.findall(r"^  Splitted  to \d{12}  1/1 +[\d,.]+ USD$", fee, re.MULTILINE)) > 1 for fee in fees)
    assert 0 < len(fees) < 5
    rows = octo("allocations", "list", "--month", MONTH, "--status", "checked_splitted", "-o", "csv").splitlines()
    assert rows[0].split(",")[:10] == (
        [
            "item_id",
            "status",
            "kind",
            "reason",
            "category",
            "step",
            "booking_month",
            "origin_month",
            "tranche_index",
            "tranche_count",
        ]
    )
    assert {row.split(",")[1] for row in rows[1:]} == {"checked_splitted"}

    listed = octo("deliveries", "list", "--output", "csv").splitlines()
    assert [row.split(",")[:3] for row in listed] == [["vendor", "account", "month"]] + [
        ["aws", "999988887777", MONTH]
    ] * 2
    newest = listed[2].split(",")[3]
    assert "verified" in octo("deliveries", "show", newest)
    octo("registry", "init", "--admin", os_user())
    octo("deliveries", "remove", newest, "--yes")
    assert "cost_line_items" in octo("stale")
    octo("run", "--month", MONTH)
    assert total(tmp_path) == first


def test_a_bad_delivery_is_a_sentence_and_the_last_good_month_stays(octo, tmp_path):
    octo("run", "--month", MONTH, "--cur", str(exports(tmp_path / "one")))
    first = total(tmp_path)
    cur = exports(tmp_path / "two", seed=8)
    data = next(cur.rglob("*.parquet"))
    data.write_bytes(data.read_bytes()[:-100])
    said = octo("run", "--month", MONTH, "--cur", str(cur), code=1)
    assert said.count("octo: ") == 1
    assert data.name in said
    assert total(tmp_path) == first
    assert len(octo("deliveries", "list", "--output", "csv").splitlines()) == 2


def test_a_wrong_call_is_a_sentence(octo, tmp_path):
    for arguments, expected in (
        (["run"], "octo: Say which month"),
        (["run", "--month", "2024-13"], "octo: '2024-13' is not a month"),
        (["run", "--month", "1999-01"], "octo: 1999-01 is before 2018-01, the first month of the lake. Set OCTO_"),
        (["run", "--month", "2999-01"], "octo: 2999-01 has not begun"),
        (["run", "--month", "202403"], "octo: '202403' is not a month; write it as YYYY-MM, for example 2024-03."),
        (["run", "--month", MONTH, "--cur", str(tmp_path / "gone")], "octo: There is no file or folder "),
        (["run", "--from", "2024-02", "--to", "2024-01"], "octo: --from 2024-02 is after --to 2024-01."),
        (["allocations", "list", "--month", MONTH], "octo: The lake has no allocations of 2024-01. "),
        (["deliveries", "list", "--month", "January"], "octo: 'January' is not a month"),
    ):
        assert expected in octo(*arguments, code=1)
    # A filter that is no status must not look like a month without rows.
    assert "'checked_splitted'" in octo("allocations", "list", "--month", MONTH, "--status", "splitted", code=2)


def test_a_bad_month_of_a_range_stops_no_other(octo, tmp_path):
    months = ["2024-01", "2024-02", "2024-03"]
    write_cur(tmp_path / "two", months=months, accounts=4, lines=500)
    cur = tmp_path / "two" / "aws"
    data = next(p for p in cur.rglob("*.parquet") if p.parent.name.startswith("20240201-"))
    data.write_bytes(b"")
    said = octo("run", "--from", "2024-01", "--to", "2024-03", "--cur", str(cur), code=1)
    assert said.count("was not published") == 1
    assert "octo: 2024-02 was not published: " in said
    assert data.name in said
    made = {p.parent.name for p in (tmp_path / "lake" / "allocations").rglob("*.parquet")}
    assert made == {"month=2024-01", "month=2024-03"}


def test_a_payers_bucket_is_run_and_when_it_is_down_the_last_good_delivery_stays(octo, tmp_path, aws):
    upload(aws, exports(tmp_path / "one"), prefix="reports/")
    document = {"vendor": "aws", "account": "999988887777", "bucket": "company-cur", "prefix": "reports"}
    write_json(tmp_path / "config" / "sources" / "payer.json", document)
    said = octo("run", "--month", MONTH)
    assert f"{len(TABLES)} partitions published" in said
    version = octo("deliveries", "list", "--output", "csv").splitlines()[1].split(",")[3]
    assert "s3://company-cur/reports/" in octo("deliveries", "show", version)

    write_json(tmp_path / "config" / "sources" / "payer.json", document | {"bucket": "no-such-bucket"})
    said = octo("run", "--month", MONTH, code=1)
    assert "AWS account 999988887777: could not list the objects at s3://no-such-bucket/reports/" in said
    assert f"octo: {MONTH} was made from what is landed" in said
    assert "Every partition is current." in octo("stale")
    # Without an earlier delivery the month would lack a payer, so it is not made.
    said = octo("run", "--month", "2024-02", code=1)
    assert "2024-02 was not published: AWS account 999988887777" in said
    assert not (tmp_path / "lake" / "cost_line_items" / "month=2024-02").exists()
