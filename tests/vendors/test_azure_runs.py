"""Which of the runs of Cost Management exports make a month, and what rows they must have."""

from datetime import UTC, datetime
from decimal import Decimal

import pytest

from octo_pipeline.model.errors import OctoError
from octo_pipeline.tables.cost_line_items import CostLineItems
from octo_pipeline.tables.table import materialise
from octo_pipeline.vendors.landing import deliveries
from tests.support.azure_exports import (
    AMORTISED,
    BOUGHT,
    COVERED,
    FOCUS,
    MONTH,
    USAGE,
    day,
    export,
    run,
    write,
)

NOW = datetime(2024, 6, 10, tzinfo=UTC)
WHOLE = run(1, 31, submitted="2024-06-02T06:00:00Z")


def landed(tmp_path, workspace, *runs):
    for number, blobs in enumerate(runs):
        source = write(tmp_path / "exports", {f"{number}/{name}": content for name, content in blobs.items()})
    return source.land(workspace.lake.root, MONTH, NOW)


def line_items(workspace, columns):
    materialise(workspace, CostLineItems(), MONTH)
    with workspace.lake.connect() as con:
        table = workspace.lake.scan("cost_line_items", [MONTH], CostLineItems.columns)
        return con.execute(f"SELECT {columns} FROM {table} ORDER BY ALL").fetchall()


def bill(workspace):
    ((billed, lines, days),) = line_items(workspace, "sum(billed_cost), sum(line_count), count(DISTINCT usage_date)")
    return billed, lines, days


def twice(first, last):
    return [day(number, Cost="2.00") for number in range(first, last + 1)]


def test_a_later_run_of_some_days_does_not_take_the_months_place(tmp_path, workspace):
    """Regression: the bill was 9.00."""
    landed(tmp_path, workspace, WHOLE, run(1, 9, submitted="2024-06-03T06:00:00Z"))
    assert bill(workspace) == (Decimal(31), 31, 31)


def test_another_export_of_two_days_does_not_take_the_months_place(tmp_path, workspace):
    """Regression: the bill was 2.00."""
    landed(tmp_path, workspace, WHOLE, run(5, 6, submitted="2024-06-03T06:00:00Z", name="onetime"))
    assert bill(workspace) == (Decimal(31), 31, 31)


def test_a_whole_month_stays_as_its_last_run_says(tmp_path, workspace):
    """Even where the run of some days has other costs."""
    later = run(1, 9, submitted="2024-06-03T06:00:00Z", rows=twice(1, 9))
    landed(tmp_path, workspace, WHOLE, later, run(1, 31, submitted="2024-06-01T06:00:00Z", name="older"))
    assert bill(workspace) == (Decimal(31), 31, 31)


def test_days_by_themselves_are_added_up(tmp_path, workspace):
    """Regression: the bill was 1.00, the last day."""
    days = [run(number, number, submitted=f"2024-06-01T00:{number:02d}:00Z") for number in range(1, 32)]
    (one,) = landed(tmp_path, workspace, *days)
    assert bill(workspace) == (Decimal(31), 31, 31)
    assert len(one.delivery.files) == 31


def test_weeks_are_added_up(tmp_path, workspace):
    """Regression: the bill was 10.00, the last week."""
    weeks = [(1, 7), (8, 14), (15, 21), (22, 31)]
    landed(tmp_path, workspace, *(run(a, b, submitted=f"2024-06-0{n}T06:00:00Z") for n, (a, b) in enumerate(weeks, 1)))
    assert bill(workspace) == (Decimal(31), 31, 31)


def test_each_day_comes_from_the_last_run_that_covers_it(tmp_path, workspace):
    landed(
        tmp_path,
        workspace,
        run(1, 20, submitted="2024-06-01T06:00:00Z"),
        run(15, 31, submitted="2024-06-02T06:00:00Z", rows=twice(15, 31)),
        run(18, 18, submitted="2024-06-03T06:00:00Z", rows=[day(18, Cost="5.00")]),
    )
    assert bill(workspace) == (Decimal(14 + 2 * 16 + 5), 31, 31)


def test_of_month_to_date_runs_the_last_counts(tmp_path, workspace):
    """Each says the whole month in its manifest, or ends on the day before."""
    landed(
        tmp_path,
        workspace,
        run(1, 31, submitted="2024-05-06T06:00:00Z", rows=twice(1, 5)),
        run(1, 31, submitted="2024-05-08T06:00:00Z", rows=[day(number) for number in range(1, 9)]),
        run(1, 7, submitted="2024-05-07T06:00:00Z", rows=twice(1, 6)),
    )
    assert bill(workspace) == (Decimal(8), 8, 8)


def test_a_run_of_the_current_month_is_not_whole_yet(tmp_path, workspace):
    """It says the whole month, but the days after its submission cannot be in it."""
    landed(
        tmp_path,
        workspace,
        run(1, 31, submitted="2024-05-06T06:00:00Z", rows=[day(number) for number in range(1, 6)]),
        *(run(number, number, submitted=f"2024-06-01T00:{number:02d}:00Z") for number in range(6, 32)),
    )
    assert bill(workspace) == (Decimal(31), 31, 31)


def test_a_day_without_rows_comes_from_its_last_run_too(tmp_path, workspace):
    landed(
        tmp_path,
        workspace,
        run(1, 10, submitted="2024-06-01T06:00:00Z"),
        run(5, 10, submitted="2024-06-02T06:00:00Z", rows=[day(6)]),
    )
    assert bill(workspace) == (Decimal(5), 5, 5)


def test_an_end_that_is_the_next_first_is_not_a_day_of_the_next_month(tmp_path, workspace):
    info = {"runInfo": {"startDate": "2024-05-01T00:00:00Z", "endDate": "2024-06-01T00:00:00Z"}}
    source = write(tmp_path / "exports", run(1, 31, submitted="2024-06-02T06:00:00Z", **info))
    source.land(workspace.lake.root, MONTH, NOW)
    assert bill(workspace) == (Decimal(31), 31, 31)
    assert source.available("2024-06") == []


def test_parts_that_do_not_count_need_not_be_there(tmp_path, workspace):
    """Exports that overwrite their files leave the manifests of older runs."""
    older = run(1, 31, submitted="2024-06-01T06:00:00Z", name="older")
    landed(tmp_path, workspace, WHOLE, {name: older[name] for name in older if name.endswith("manifest.json")})
    assert bill(workspace) == (Decimal(31), 31, 31)


def test_focus_of_some_days_does_not_take_the_place_of_actual_cost(tmp_path, workspace):
    focus = run(5, 6, submitted="2024-06-03T06:00:00Z", name="focus", rows=[FOCUS], kind="FocusCost")
    landed(tmp_path, workspace, WHOLE, focus)
    assert bill(workspace) == (Decimal(31), 31, 31)


def test_focus_and_actual_cost_that_lack_days_of_each_other_are_refused(tmp_path, workspace):
    focus = run(5, 20, submitted="2024-06-03T06:00:00Z", name="focus", rows=[FOCUS], kind="FocusCost")
    with pytest.raises(OctoError, match="do not cover 2024-05-01 to 2024-05-04 of 2024-05"):
        landed(tmp_path, workspace, run(1, 10, submitted="2024-06-03T06:00:00Z"), focus)


def test_days_that_only_actual_cost_covers_count_as_they_were_billed(tmp_path, workspace):
    """The amortised export is a day behind; what was bought on its days is amortised, on others it is not."""
    bought_late = BOUGHT | {"Date": "05/04/2024", "Cost": "7", "ReservationId": "r-2"}
    landed(
        tmp_path,
        workspace,
        run(1, 4, submitted="2024-05-05T06:00:00Z", rows=[day(1), COVERED, BOUGHT, bought_late]),
        run(1, 3, submitted="2024-05-04T06:00:00Z", rows=[day(1), AMORTISED], kind="AmortizedCost", name="amortised"),
    )
    assert line_items(workspace, "usage_date::VARCHAR, line_type, billed_cost, effective_cost") == [
        ("2024-05-01", "Usage", Decimal(1), Decimal(1)),
        ("2024-05-03", "Purchase", Decimal(90), Decimal(0)),
        ("2024-05-03", "Usage", Decimal(0), Decimal(0)),
        ("2024-05-03", "Usage", Decimal(0), Decimal(6)),
        ("2024-05-04", "Purchase", Decimal(7), Decimal(7)),
    ]


# -- rows of another period -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("blobs", "sentence"),
    [
        (
            export(USAGE, USAGE | {"BillingPeriodStartDate": "04/01/2024", "Date": "04/03/2024"}),
            "manifest.json, line 3: billing_period_start_date is '2024-04-01', so the row is of another billing period, "
            "but the export is of 2024-05",
        ),
        (
            run(2, 31, submitted="2024-06-02T06:00:00Z", rows=[day(2), day(3, BillingPeriodStartDate="06/01/2024")]),
            "line 3: billing_period_start_date is '2024-06-01'",
        ),
        (
            export(USAGE | {"BillingPeriodStartDate": "", "Date": "06/03/2024"}),
            "line 2: billing_period_start_date is '2024-06-03'",
        ),
        (
            export(FOCUS | {"BillingPeriodStart": "2024-04-01T00:00:00Z"}, kind="FocusCost"),
            "line 2: billing_period_start is '2024-04-01'",
        ),
        (
            run(1, 9, submitted="2024-06-02T06:00:00Z") | run(10, 12, submitted="2024-06-03T06:00:00Z", rows=[day(9)]),
            "line 2: usage_date is '2024-05-09', but the run is of 2024-05-10 to 2024-05-12",
        ),
    ],
)
def test_rows_that_are_not_of_the_runs_days_are_refused(tmp_path, workspace, blobs, sentence):
    """Regression: they were booked in the month that the manifest says."""
    with pytest.raises(OctoError) as refusal:
        landed(tmp_path, workspace, blobs)
    assert sentence in str(refusal.value)
    assert deliveries(workspace.lake.root) == []


def test_a_period_that_begins_in_the_middle_of_a_month(tmp_path, workspace):
    """Pay as you go can be billed from the 15th to the 14th: the row belongs to the month of its day."""
    landed(tmp_path, workspace, export(USAGE | {"BillingPeriodStartDate": "04/15/2024"}))
    assert bill(workspace) == (Decimal("1.5"), 1, 1)


def test_rows_of_a_cost_allocation_rule_cancel_out(tmp_path, workspace):
    rule = {"CostAllocationRuleName": "shared network"}
    rows = [
        USAGE | {"CostAllocationRuleName": ""},
        USAGE | rule | {"Cost": "-1.5"},
        USAGE | rule | {"SubscriptionId": "CCCC-3"},
    ]
    landed(tmp_path, workspace, export(*rows))
    assert line_items(workspace, "sub_account_id, billed_cost") == [
        ("aaaa-1", Decimal(0)),
        ("cccc-3", Decimal("1.5")),
    ]
