"""The sample months: deterministic, consistent as a bill is, with all that the shipped allocators use."""

import csv
import gzip
import json
import re
from decimal import ROUND_HALF_EVEN, Decimal
from pathlib import Path

import duckdb
import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.rules.allocator import load_allocators
from octo_pipeline.rules.cost_group import load_cost_groups
from octo_pipeline.vendors.aws.sample import write_cur, writer
from octo_pipeline.vendors.aws.sample.accounts import DATA_PLATFORM, PAYER, PLATFORM, SANDBOX
from octo_pipeline.vendors.aws.sample.fees import support_cents

CONFIG = Path(__file__).parents[2] / "allocator_configs"
MONTHS = ["2024-01", "2024-02", "2024-03"]
LINES = 20_000
TEAMS = [str(400000000000 + n) for n in range(1, 9)]


def data_files(written: list[Path]) -> list[Path]:
    return [path for path in written if not path.name.endswith("Manifest.json")]


def manifests(written: list[Path]) -> list[dict]:
    return [json.loads(path.read_text()) for path in written if path.name.endswith("Manifest.json")]


def connect(files: list[Path]) -> duckdb.DuckDBPyConnection:
    """A view `cur` of the Parquet files whose numbers are decimals of ten places."""
    con = duckdb.connect()
    con.execute(f"CREATE VIEW files AS FROM read_parquet({[str(path) for path in files]})")
    numbers = [name for name, type_, *_ in con.execute("DESCRIBE files").fetchall() if type_ == "DOUBLE"]
    exact = ", ".join(f"{name}::DECIMAL(38, 10) AS {name}" for name in numbers)
    con.execute(f"CREATE VIEW exact AS SELECT * REPLACE ({exact}) FROM files")
    con.execute(
        """CREATE VIEW cur AS SELECT
            *,
            strftime(bill_billing_period_start_date, '%Y-%m') AS month,
            line_item_usage_account_id AS account,
            line_item_line_item_type AS line_type,
            line_item_product_code AS code,
            line_item_line_item_description AS description,
            line_item_unblended_cost AS cost,
            reservation_reservation_a_r_n AS ri_arn,
            reservation_effective_cost AS ri_used,
            reservation_unused_amortized_upfront_fee_for_billing_period + reservation_unused_recurring_fee
                AS ri_unused,
            reservation_amortized_upfront_fee_for_billing_period AS ri_upfront,
            savings_plan_savings_plan_a_r_n AS sp_arn,
            savings_plan_savings_plan_effective_cost AS sp_used
        FROM exact"""
    )
    return con


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> list[Path]:
    return write_cur(tmp_path_factory.mktemp("sample"), months=MONTHS, lines=LINES)


@pytest.fixture(scope="module")
def con(written):
    with connect(data_files(written)) as con:
        yield con


# -- delivery ---------------------------------------------------------------------------------------------


def test_the_layout_is_that_of_the_vendor(tmp_path):
    written = write_cur(tmp_path, months=["2023-12"], lines=200, files=2)

    period = tmp_path / "aws/cur/octo-sample/20231201-20240101"
    assert written == [
        period / "octo-sample-00001.snappy.parquet",
        period / "octo-sample-00002.snappy.parquet",
        period / "octo-sample-Manifest.json",
    ]
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(written)


@pytest.mark.parametrize(
    ("format", "compression", "content_type", "suffix"),
    [("parquet", "Parquet", "Parquet", "snappy.parquet"), ("csv.gz", "GZIP", "text/csv", "csv.gz")],
)
def test_the_manifest_fits_the_files(tmp_path, format, compression, content_type, suffix):
    written = write_cur(tmp_path, months=["2024-02"], lines=500, files=2, format=format)

    (manifest,) = manifests(written)
    assert manifest["reportKeys"] == [f"cur/octo-sample/20240201-20240301/octo-sample-{n:05d}.{suffix}" for n in (1, 2)]
    assert [tmp_path / "aws" / key for key in manifest["reportKeys"]] == data_files(written)
    assert manifest["billingPeriod"] == {"start": "20240201T000000.000Z", "end": "20240301T000000.000Z"}
    assert (manifest["compression"], manifest["contentType"]) == (compression, content_type)
    assert (manifest["account"], manifest["reportName"]) == (PAYER, "octo-sample")
    headers = [f"{column['category']}/{column['name']}" for column in manifest["columns"]]
    for path in data_files(written):
        assert columns_of(path) == (headers if format == "csv.gz" else [athena(header) for header in headers])


def columns_of(path: Path) -> list[str]:
    if path.suffix == ".gz":
        with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
            return next(csv.reader(text))
    return [row[0] for row in duckdb.sql(f"DESCRIBE FROM '{path}'").fetchall()]


def athena(header: str) -> str:
    category, name = (re.sub(r"(?<=.)([A-Z])", r"_\1", part) for part in header.split("/"))
    return f"{category}_{name}".replace(":", "_").lower()


def test_column_names_and_types_are_those_of_a_legacy_report(written):
    types = dict(row[:2] for row in duckdb.sql(f"DESCRIBE FROM '{data_files(written)[0]}'").fetchall())
    expected = {
        "bill_billing_period_start_date": "TIMESTAMP",
        "bill_payer_account_id": "VARCHAR",
        "line_item_usage_account_id": "VARCHAR",
        "line_item_usage_start_date": "TIMESTAMP",
        "line_item_line_item_description": "VARCHAR",
        "line_item_usage_amount": "DOUBLE",
        "line_item_unblended_rate": "VARCHAR",
        "line_item_unblended_cost": "DOUBLE",
        "product_product_name": "VARCHAR",
        "product_region": "VARCHAR",
        "pricing_public_on_demand_cost": "DOUBLE",
        "pricing_offering_class": "VARCHAR",
        "reservation_reservation_a_r_n": "VARCHAR",
        "reservation_effective_cost": "DOUBLE",
        "reservation_unused_amortized_upfront_fee_for_billing_period": "DOUBLE",
        "reservation_unused_recurring_fee": "DOUBLE",
        "savings_plan_savings_plan_a_r_n": "VARCHAR",
        "savings_plan_savings_plan_effective_cost": "DOUBLE",
        "savings_plan_total_commitment_to_date": "DOUBLE",
        "savings_plan_used_commitment": "DOUBLE",
        "resource_tags_user_cost_center": "VARCHAR",
    }
    assert {name: types.get(name) for name in expected} == expected


def test_every_column_of_the_report_has_values(written, con):
    names = [row[0] for row in con.execute("DESCRIBE files").fetchall()]
    counts = con.execute(f"SELECT {', '.join(f'count({name})' for name in names)} FROM files").fetchone()
    assert [name for name, count in zip(names, counts, strict=True) if count == 0] == []


@pytest.mark.parametrize("format", ["parquet", "csv.gz"])
def test_the_same_arguments_give_the_same_rows_in_the_same_files(tmp_path, format):
    first, second = (
        write_cur(tmp_path / name, months=["2024-01"], lines=2_000, format=format, files=2) for name in "ab"
    )
    for path, other in zip(data_files(first), data_files(second), strict=True):
        assert path.name == other.name
        # Not the bytes: threads may change the order.
        assert rows_of(path) == rows_of(other)
    assert first[-1].read_bytes() == second[-1].read_bytes()


def rows_of(path: Path) -> list[str] | list[tuple]:
    if path.suffix == ".gz":
        return sorted(gzip.decompress(path.read_bytes()).decode().splitlines())
    return duckdb.sql(f"FROM '{path}' ORDER BY identity_line_item_id").fetchall()


def test_what_changes_the_rows_changes_the_assembly(tmp_path):
    base: dict = {"months": ["2024-02"], "lines": 200, "accounts": 5}
    variants: list[dict] = [
        base,
        base | {"seed": 8},
        base | {"lines": 201},
        base | {"accounts": 6},
        base | {"files": 2},
        base | {"format": "csv.gz"},
        base | {"months": ["2024-01", "2024-02"]},
        base | {"months": ["2024-02", "2024-03"]},
    ]
    found = [
        manifest["assemblyId"]
        for n, arguments in enumerate(variants)
        for manifest in manifests(write_cur(tmp_path / str(n), **arguments))
        if manifest["billingPeriod"]["start"].startswith("202402")
    ]
    assert len(found) == len(set(found)) == len(variants)


def test_another_seed_gives_other_usage_of_the_same_size(tmp_path):
    months = [write_cur(tmp_path / str(seed), months=["2024-01"], lines=2_000, seed=seed) for seed in (1, 2)]
    sums = []
    for month in months:
        with connect(data_files(month)) as con:
            sums.append(con.execute("SELECT count(*), sum(cost) FROM cur WHERE line_type = 'Usage'").fetchone())
    assert sums[0][0] == sums[1][0] == 1_700
    assert sums[0][1] != sums[1][1]


def test_csv_and_parquet_have_the_same_rows(tmp_path):
    parquet, text = (
        data_files(write_cur(tmp_path / name, months=["2024-01"], lines=2_000, format=format))[0]
        for name, format in (("parquet", "parquet"), ("csv", "csv.gz"))
    )
    with duckdb.connect() as con:
        con.execute(f"CREATE VIEW wanted AS FROM '{parquet}'")
        types = [row[1] for row in con.execute("DESCRIBE wanted").fetchall()]
        names = columns_of(text)
        casts = ", ".join(f'"{name}"::{type_}' for name, type_ in zip(names, types, strict=True))
        con.execute(f"CREATE TABLE got AS SELECT {casts} FROM read_csv('{text}', all_varchar = true)")
        assert con.execute("SELECT count(*) FROM got").fetchone()[0] > 2_000
        assert con.execute("FROM wanted EXCEPT ALL FROM got").fetchall() == []
        assert con.execute("FROM got EXCEPT ALL FROM wanted").fetchall() == []


def test_csv_writes_numbers_and_times_as_the_vendor_does(tmp_path):
    (path,) = data_files(write_cur(tmp_path, months=["2024-01"], lines=200, format="csv.gz"))
    with gzip.open(path, "rt", encoding="utf-8", newline="") as text:
        rows = list(csv.DictReader(text))
    assert {row["bill/BillingPeriodStartDate"] for row in rows} == {"2024-01-01T00:00:00Z"}
    assert all(re.fullmatch(r"-?\d+\.\d{10}", row["lineItem/UnblendedCost"]) for row in rows)
    assert not path.with_suffix("").exists()


def test_several_files_have_the_rows_of_one(tmp_path):
    one, many = (
        data_files(write_cur(tmp_path / str(files), months=["2024-01"], lines=5_000, files=files)) for files in (1, 3)
    )
    with duckdb.connect() as con:
        con.execute(f"CREATE VIEW one AS FROM '{one[0]}'")
        con.execute(f"CREATE VIEW many AS FROM read_parquet({[str(path) for path in many]})")
        counts = [con.execute(f"SELECT count(*) FROM '{path}'").fetchone()[0] for path in many]
        assert len(counts) == 3
        assert min(counts) > 1_000
        assert con.execute("FROM one EXCEPT ALL FROM many").fetchall() == []
        assert con.execute("FROM many EXCEPT ALL FROM one").fetchall() == []


def test_writing_again_leaves_nothing_of_the_former_delivery(tmp_path):
    write_cur(tmp_path, months=["2024-01"], lines=200, files=3)
    written = write_cur(tmp_path, months=["2024-01"], lines=200, files=1, format="csv.gz")
    assert sorted(path for path in tmp_path.rglob("*") if path.is_file()) == sorted(written)


def test_a_run_that_dies_leaves_no_manifest(tmp_path, monkeypatch):
    *_, manifest = write_cur(tmp_path, months=["2024-01"], lines=200, files=2)

    def die(*_args):
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "_write_file", die)
    with pytest.raises(KeyboardInterrupt):
        write_cur(tmp_path, months=["2024-01"], lines=200, files=2)
    assert not manifest.exists()


# -- the bill ---------------------------------------------------------------------------------------------


def test_a_month_has_the_usage_lines_asked_for(con):
    counts = con.execute(
        """SELECT month, count(*) FROM cur
        WHERE line_type IN ('Usage', 'DiscountedUsage', 'SavingsPlanCoveredUsage')
        GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    assert counts == [(month, LINES) for month in MONTHS]


def test_line_ids_are_unique_and_lines_lie_in_their_month(con):
    assert con.execute(
        """SELECT count(DISTINCT identity_line_item_id) = count(*), bool_and(
            line_item_usage_start_date >= bill_billing_period_start_date
            AND line_item_usage_end_date <= bill_billing_period_end_date
            AND line_item_usage_start_date < line_item_usage_end_date)
        FROM cur"""
    ).fetchone() == (True, True)
    assert con.execute("SELECT count(DISTINCT line_item_usage_start_date) FROM cur").fetchone()[0] == 24 * 91


def test_usage_costs_are_amount_times_rate_to_ten_places(con):
    wrong = con.execute(
        """SELECT count(*) FROM cur
        WHERE line_type IN ('Usage', 'SavingsPlanCoveredUsage')
          AND (abs(line_item_usage_amount::DOUBLE * line_item_unblended_rate::DOUBLE - cost::DOUBLE) > 1e-9
               OR cost <> pricing_public_on_demand_cost OR cost <= 0)"""
    ).fetchone()[0]
    assert wrong == 0
    assert con.execute(
        "SELECT count(*) FROM files WHERE line_item_unblended_cost::DECIMAL(38, 10)::DOUBLE <> line_item_unblended_cost"
    ).fetchone() == (0,)


def test_a_usage_type_has_one_rate_and_one_description(con):
    assert (
        con.execute(
            """SELECT code, line_item_usage_type FROM cur WHERE line_type = 'Usage' GROUP BY ALL
        HAVING count(DISTINCT line_item_unblended_rate) > 1 OR count(DISTINCT description) > 1"""
        ).fetchall()
        == []
    )


def test_reservations_add_up_exactly(con):
    rows = con.execute(
        """SELECT month, ri_arn, sum(ri_used) AS used, sum(ri_unused) AS unused,
            sum(cost) FILTER (line_type = 'RIFee') + sum(ri_upfront) AS paid,
            max(pricing_offering_class) FILTER (line_type = 'DiscountedUsage') AS offering_class,
            list(DISTINCT account) FILTER (line_type = 'RIFee') AS owners,
            bool_and(account[1] = '4') FILTER (line_type = 'DiscountedUsage') AS is_used_by_teams,
            sum(pricing_public_on_demand_cost) FILTER (line_type = 'DiscountedUsage') AS listed,
            sum(cost) FILTER (line_type = 'DiscountedUsage') AS billed
        FROM cur WHERE ri_arn IS NOT NULL GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    assert len(rows) == 2 * len(MONTHS)
    for _, _, used, unused, paid, _, owners, is_used_by_teams, listed, billed in rows:
        assert used + unused == paid
        assert used > unused > 0
        assert listed > used + unused  # the reservation saves something on the whole
        assert (owners, is_used_by_teams, billed) == ([PAYER], True, 0)
    assert {row[5] for row in rows} == {"standard", "convertible"}


def test_savings_plans_add_up_exactly_and_negations_cancel(con):
    rows = con.execute(
        """SELECT month, sp_arn,
            sum(sp_used) AS used,
            sum(savings_plan_used_commitment) AS used_commitment,
            sum(savings_plan_total_commitment_to_date) AS committed,
            sum(cost) FILTER (line_type = 'SavingsPlanRecurringFee') AS fee,
            sum(cost) FILTER (line_type <> 'SavingsPlanRecurringFee') AS covered_and_negation,
            sum(cost) FILTER (line_type = 'SavingsPlanCoveredUsage') AS covered,
            list(DISTINCT account) FILTER (line_type = 'SavingsPlanRecurringFee') AS owners
        FROM cur WHERE sp_arn IS NOT NULL GROUP BY ALL ORDER BY ALL"""
    ).fetchall()
    assert len(rows) == 2 * len(MONTHS)
    for _, _, used, used_commitment, committed, fee, covered_and_negation, covered, owners in rows:
        assert used == used_commitment
        assert committed == fee
        assert fee > used > fee / 2
        assert covered > fee  # the plan saves something on the whole
        assert covered_and_negation == 0
        assert owners == [PAYER]
    assert (
        con.execute(
            """SELECT account FROM cur WHERE line_type IN ('SavingsPlanCoveredUsage', 'SavingsPlanNegation')
        GROUP BY month, account HAVING sum(cost) <> 0"""
        ).fetchall()
        == []
    )


def test_support_credit_tax_and_discount_follow_the_usage(con):
    for month in MONTHS:
        total, compute = con.execute(
            """SELECT sum(floor(usage * 100)), sum(compute) FROM (
                SELECT sum(cost) AS usage, floor(sum(cost) FILTER (code = 'AmazonEC2') * 100) AS compute
                FROM cur WHERE month = ? AND line_type = 'Usage' GROUP BY account)""",
            [month],
        ).fetchone()
        assert total < 15_000_000  # in the first tier of support: a tenth
        support = cents(con, month, "line_type = 'Fee' AND code = 'AWSSupportEnterprise'")
        assert support == total * 10 // 100
        assert cents(con, month, "line_type = 'Tax' AND code = 'AWSSupportEnterprise'") == support // 10
        assert cents(con, month, "line_type = 'Credit'") == -(total * 2 // 100)
        assert 0 <= compute // 10 - cents(con, month, "line_type = 'Tax' AND code = 'AmazonEC2'") <= 12
        assert 0 <= compute * 3 // 100 + cents(con, month, "line_type = 'EdpDiscount'") <= 12


def cents(con: duckdb.DuckDBPyConnection, month: str, condition: str) -> Decimal:
    return con.execute(f"SELECT sum(cost) * 100 FROM cur WHERE month = ? AND {condition}", [month]).fetchone()[0]


def test_support_above_the_first_tier_costs_less_than_a_tenth():
    tiers = support_cents()
    results = [
        duckdb.execute(f"SELECT {tiers} FROM (SELECT {usage}::HUGEINT AS total_cents)").fetchone()[0]
        for usage in (0, 15_000_000, 50_000_000, 100_000_000, 100_000_100)
    ]
    assert results == [0, 1_500_000, 3_950_000, 6_450_000, 6_450_003]


def test_every_month_tells_its_part_of_the_story(con):
    rows = con.execute(
        """SELECT month, line_type, account, code, description, cost FROM cur
        WHERE line_type IN ('Fee', 'Refund', 'BundledDiscount') AND code <> 'AWSSupportEnterprise'
        ORDER BY month, line_type, account DESC, code, cost"""
    ).fetchall()
    bundled = ("BundledDiscount", PLATFORM, "AmazonCloudFront", "Bundled discount for CloudFront and WAF")
    upfront = ("Fee", PAYER, "AmazonEC2", "Sign up charge for reserved instances")
    yearly = ("Fee", PAYER, "octosampleobservability00", "Observability suite, annual contract")
    renewal = ("Fee", TEAMS[0], "AmazonRegistrar", "Renewal of example.com")
    refund = ("Refund", TEAMS[0], "AmazonS3", "Refund for AmazonS3 requests billed twice in 2024-02")
    assert rows == [
        ("2024-01", *bundled, Decimal("-42.5")),
        ("2024-01", *upfront, Decimal("4036.60")),
        ("2024-01", *upfront, Decimal("7148.16")),
        ("2024-01", *yearly, Decimal(12_000)),
        ("2024-01", *renewal, Decimal(13)),
        ("2024-02", *bundled, Decimal("-42.5")),
        ("2024-03", *bundled, Decimal("-42.5")),
        ("2024-03", *refund, Decimal("-348.15")),
    ]


def test_upfront_fees_name_their_reservation(con):
    assert con.execute(
        """SELECT count(*), count(DISTINCT ri_arn) FROM cur
        WHERE line_type = 'Fee' AND description LIKE 'Sign up charge%'
          AND ri_arn IN (SELECT ri_arn FROM cur WHERE line_type = 'RIFee')"""
    ).fetchone() == (2, 2)


def test_the_accounts_have_their_roles(con):
    accounts = con.execute("SELECT DISTINCT account FROM cur ORDER BY account").fetchall()
    assert [account for (account,) in accounts] == sorted([PAYER, PLATFORM, DATA_PLATFORM, SANDBOX, *TEAMS])
    assert con.execute("SELECT DISTINCT account FROM cur WHERE code = 'AmazonEKS'").fetchall() == [(PLATFORM,)]
    assert con.execute(
        "SELECT DISTINCT code FROM cur WHERE account = ? AND line_type = 'Usage' ORDER BY code", [PAYER]
    ).fetchall() == [("AWSCloudTrail",), ("AWSConfig",), ("AmazonGuardDuty",)]
    taxed = con.execute("SELECT month, count(DISTINCT account) FROM cur WHERE line_type = 'Tax' GROUP BY month")
    assert sorted(taxed.fetchall()) == [(month, 12) for month in MONTHS]


def test_shares_of_usage_move_and_leave_something_to_round(con):
    """A fee that splits without rounding would show nobody what becomes of the last place."""
    shares = {}
    for month in MONTHS:
        usage = con.execute(
            f"""SELECT sum(coalesce(ri_used, sp_used, cost)) FROM cur
            WHERE month = ? AND account IN {tuple(TEAMS)} AND line_type NOT IN ('Tax', 'Fee', 'EdpDiscount')
            GROUP BY account ORDER BY account""",
            [month],
        ).fetchall()
        shares[month] = [u / sum(v for (v,) in usage) for (u,) in usage]
        parts = [(1000 * s).quantize(Decimal("1e-10"), ROUND_HALF_EVEN) for s in shares[month]]
        assert all(part != 1000 * share for part, share in zip(parts, shares[month], strict=True))
        assert min(shares[month]) < Decimal("0.5") / len(TEAMS)  # a team that rides free in shared-eks
    assert shares["2024-01"] != shares["2024-02"] != shares["2024-03"]


@pytest.mark.parametrize("accounts", [3, 4, 5, 40])
def test_few_and_many_accounts(tmp_path, accounts):
    written = write_cur(tmp_path, months=["2024-02"], accounts=accounts, lines=10_000)
    with connect(data_files(written)) as con:
        found = [row[0] for row in con.execute("SELECT DISTINCT account FROM cur").fetchall()]
        roles = [PAYER, PLATFORM, DATA_PLATFORM, SANDBOX][: accounts - 1]
        teams = [str(400000000001 + n) for n in range(accounts - len(roles))]
        assert sorted(found) == sorted(roles + teams)
        assert con.execute("SELECT count(*) FROM cur WHERE account IS NULL OR cost IS NULL").fetchone() == (0,)
        types = con.execute("SELECT count(DISTINCT line_type) FROM cur").fetchone()[0]
        assert types == 12


def test_the_smallest_sample_still_adds_up(tmp_path):
    with connect(data_files(write_cur(tmp_path, months=["2024-02"], accounts=3, lines=100))) as con:
        used, unused, paid = con.execute(
            """SELECT sum(ri_used), sum(ri_unused),
                sum(cost) FILTER (line_type = 'RIFee') + sum(ri_upfront) FROM cur"""
        ).fetchone()
        assert used + unused == paid


def test_cardinalities_grow_with_the_sample(tmp_path):
    with connect(data_files(write_cur(tmp_path, months=["2024-02"], accounts=60, lines=200_000))) as con:
        services, usage_types, descriptions, regions, resources, days = con.execute(
            """SELECT count(DISTINCT code), count(DISTINCT line_item_usage_type),
                count(DISTINCT description), count(DISTINCT product_region),
                count(DISTINCT line_item_resource_id), count(DISTINCT line_item_usage_start_date::DATE)
            FROM cur WHERE line_type = 'Usage'"""
        ).fetchone()
    assert (services, regions, days) == (30, 8, 29)
    assert usage_types > 1_500
    assert descriptions > 1_500
    assert resources == 170_000 // 24


# -- arguments --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ({"months": []}, "at least one month"),
        ({"months": ["2024-13"]}, "'2024-13' is not a month"),
        ({"months": ["2024-01", "2024-01"]}, "each month once; the months are 2024-01, 2024-01"),
        ({"accounts": 2}, "2 accounts is too small; give at least 3"),
        ({"lines": 99}, "99 usage lines a month is too small; give at least 100"),
        ({"files": 0}, "cannot be written to 0 files; give 1 up to the number of lines, 20000"),
        ({"files": 20_001}, "cannot be written to 20001 files"),
        ({"format": "orc"}, "'orc' is not a format of the sample; give one of parquet, csv.gz"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(tmp_path, arguments, sentence):
    with pytest.raises(OctoError, match=re.escape(sentence)):
        write_cur(tmp_path, **({"months": ["2024-01"]} | arguments))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_a_sentence(tmp_path):
    (tmp_path / "aws").write_text("a file where the folder should be")
    with pytest.raises(OctoError, match=r"The sample of 2024-01 cannot be written to .*: "):
        write_cur(tmp_path, months=["2024-01"], lines=200)


# -- the shipped configuration ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def allocators():
    loaded, problems = load_allocators(CONFIG / "allocators")
    assert [str(problem) for problem in problems] == []
    return loaded


@pytest.fixture(scope="module")
def cost_groups():
    loaded, problems = load_cost_groups(CONFIG / "cost_groups")
    assert [str(problem) for problem in problems] == []
    return loaded


@pytest.fixture(scope="module")
def items(con) -> duckdb.DuckDBPyConnection:
    """The sample's lines under the names that criteria and filters look at."""
    con.execute(
        """CREATE TABLE items AS SELECT
            month, 'aws' AS vendor, PAYER AS billing_account_id, account AS sub_account_id, line_type,
            code AS service_code, product_product_name AS service_name,
            description AS charge_description, line_item_operation AS operation,
            line_item_usage_type AS usage_type, product_region AS region_id, 'USD' AS billing_currency, cost,
            CASE WHEN line_type IN ('DiscountedUsage', 'RIFee') THEN 'RI'
                WHEN line_type IN ('SavingsPlanCoveredUsage', 'SavingsPlanRecurringFee') THEN 'SP' END
                AS commitment_discount_type,
            coalesce(ri_arn, sp_arn) AS commitment_discount_id,
            pricing_offering_class AS offer_class,
            MAP {'team': coalesce(resource_tags_user_team, ''),
                'environment': coalesce(resource_tags_user_environment, '')} AS tags,
            MAP {}::MAP(VARCHAR, VARCHAR) AS project_labels,
            CASE WHEN commitment_discount_type IS NOT NULL THEN 'savings' END AS savings,
            CASE WHEN line_type LIKE '%Usage' OR line_type = 'SavingsPlanNegation'
                THEN 'account' ELSE 'fee' END AS category
        FROM cur""".replace("PAYER", f"'{PAYER}'")
    )
    return con


def matched(items: duckdb.DuckDBPyConnection, allocator, what: str) -> list[tuple]:
    any_map = " OR ".join(
        "(" + " AND ".join(condition.sql(column) for column, condition in criteria.items()) + ")"
        for criteria in allocator.criteria
    )
    return items.execute(
        f"SELECT DISTINCT {what} FROM items"
        f" WHERE '{allocator.category}' IN (category, savings) AND ({any_map}) ORDER BY ALL"
    ).fetchall()


def test_the_shipped_documents_introduce_themselves(allocators, cost_groups):
    for document in (*allocators, *cost_groups):
        assert len(document.name) > 5
        assert len(document.description) > 40
    assert {a.id for a in allocators} == {path.stem for path in (CONFIG / "allocators").iterdir()}
    assert {g.id for g in cost_groups} == {path.stem for path in (CONFIG / "cost_groups").iterdir()}
    assert {a.category for a in allocators} == {"fee", "account", "savings"}
    assert {entry.type for a in allocators for entry in a.entries} == {"account", "payer", "costgroup"}


def test_the_shipped_allocators_hold_from_the_first_sample_month_on(allocators):
    for allocator in allocators:
        assert not allocator.matches_month("2023-12")
        assert allocator.matches_month("2024-01")
        assert allocator.matches_month("2034-01")


def test_the_cost_groups_of_allocators_exist(allocators, cost_groups):
    named = {entry.value for a in allocators for entry in a.entries if entry.type == "costgroup"}
    assert named == {"all-workloads", "product-teams", "production"}
    assert named <= {group.id for group in cost_groups}


def test_each_allocator_takes_what_its_description_says(allocators, items):
    taken = {
        a.id: {tuple(row) for row in matched(items, a, "sub_account_id, line_type, service_code")} for a in allocators
    }
    covered = {(team, "DiscountedUsage", "AmazonEC2") for team in teams_of(items, "DiscountedUsage")}
    planned = {(team, "SavingsPlanCoveredUsage", "AmazonEC2") for team in teams_of(items, "SavingsPlanCoveredUsage")}
    assert taken == {
        "enterprise-support": {(PAYER, "Fee", "AWSSupportEnterprise")},
        "marketplace-annual": {(PAYER, "Fee", "octosampleobservability00")},
        "payer-tax": {(PAYER, "Tax", "AWSSupportEnterprise")},
        "migration-credit": {(PAYER, "Credit", "AmazonRedshift")},
        "shared-eks": {(PLATFORM, "Usage", "AmazonEC2"), (PLATFORM, "Usage", "AmazonEKS")},
        "governance-tools": {(PAYER, "Usage", code) for code in ("AWSCloudTrail", "AWSConfig", "AmazonGuardDuty")},
        "ri-savings": covered | {(PAYER, "RIFee", "AmazonEC2")},
        "sp-savings": planned | {(PAYER, "SavingsPlanRecurringFee", "ComputeSavingsPlans")},
        # The other vendors' rules take nothing of an AWS bill (tests/tables/test_three_vendors.py).
        "azure-savings-plan": set(),
        "google-tax": set(),
    }


def teams_of(items: duckdb.DuckDBPyConnection, line_type: str) -> list[str]:
    rows = items.execute("SELECT DISTINCT sub_account_id FROM items WHERE line_type = ?", [line_type]).fetchall()
    assert len(rows) > 3
    return [team for (team,) in rows]


def test_the_cost_groups_have_the_accounts_their_names_say(cost_groups, items):
    accounts = {
        group.id: [
            row[0]
            for row in items.execute(
                f"SELECT DISTINCT sub_account_id FROM items WHERE {group.sql()} ORDER BY ALL"
            ).fetchall()
        ]
        for group in cost_groups
    }
    assert accounts["product-teams"] == TEAMS
    assert accounts["all-workloads"] == sorted([PLATFORM, DATA_PLATFORM, *TEAMS])
    assert accounts["shared-platforms"] == [PLATFORM, DATA_PLATFORM]
    assert PLATFORM in accounts["containers"]
    assert set(TEAMS) < set(accounts["production"])
    assert TEAMS[0] in accounts["payments-compute-us"]
    assert set(accounts["payments-compute-us"]) <= {TEAMS[0], PLATFORM, DATA_PLATFORM, SANDBOX}
