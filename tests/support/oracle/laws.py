"""What holds of a lake with closed months whatever is in it: each function returns what violates it, which is nothing."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import replace

from tests.support.oracle.closed_months import WAITING, Lake, key_of, usage_rows
from tests.support.oracle.documents import add_months
from tests.support.oracle.months import Result, Row, due
from tests.support.oracle.results import ACCOUNT_COST_MEASURES, account_costs, cost_group_costs, prepayments

Violations = dict[tuple[object, ...], object]
FINAL = ACCOUNT_COST_MEASURES.index("final_cost")
# The sections that count in the savings of a group; all others are its cost.
SAVINGS_SECTIONS = ("savings", "savings_correction")


def violations(lake: Lake) -> Violations:
    """What violates any law."""
    laws = (
        rows_are_as_known,
        owners_are_as_known,
        groups_are_as_known,
        items_are_whole,
        prepayments_roll,
        costs_add_up,
    )
    return {(law.__name__, *key): value for law in laws for key, value in law(lake).items()}


def all_rows(lake: Lake) -> list[Row]:
    """The rows of all months, and the corrections that wait for an open one."""
    run = lake.last_run
    return [row for rows in (*run.result.rows.values(), run.waiting) for row in rows]


def rows_are_as_known(lake: Lake) -> Violations:
    """Σ closed as booked + Σ corrections = as known, per key of a row."""
    known = lake.last_run.known
    sums: dict[tuple[object, ...], list[int]] = defaultdict(lambda: [0, 0])

    def add(month: str, rows: Iterable[Row], sign: int) -> None:
        for row in rows:
            total = sums[month, *key_of(row)]
            total[0] += sign * row.cost
            total[1] += sign * row.effective_cost

    for row in all_rows(lake):
        if row.kind == "correction":
            add(row.corrected_month, [row], 1)
    for month, closing in lake.closings.items():
        add(month, [*closing.own_rows, *usage_rows(closing.made, closing.items)], 1)
        add(month, [*known.rows[month], *usage_rows(known.months[month], known.items[month])], -1)
    return {key: tuple(amounts) for key, amounts in sums.items() if any(amounts)}


def owners_are_as_known(lake: Lake) -> Violations:
    """Σ closed as booked + Σ corrections = as known, per owner, final and amortised."""
    run = lake.last_run
    sums: Counter[tuple[object, ...]] = Counter()

    def add(result: Result, month: str, sign: int) -> None:
        for (_, *owner), amounts in account_costs(result).items():
            sums["final", month, *owner] += sign * amounts[FINAL]
            sums["amortised", month, *owner] += sign * amounts[FINAL + 1]

    for month, closing in lake.closings.items():
        corrections = [row for row in all_rows(lake) if row.corrected_month == month]
        of_month = replace(run.result, months={month: closing.made}, rows={month: [*closing.own_rows, *corrections]})
        add(of_month, month, 1)
        add(replace(run.known, months={month: run.known.months[month]}), month, -1)
    return {key: amount for key, amount in sums.items() if amount}


def groups_are_as_known(lake: Lake) -> Violations:
    """Σ closed as booked + Σ corrections = as known, per group, account, service and currency."""
    run = lake.last_run
    sums: dict[tuple[object, ...], list[int]] = defaultdict(lambda: [0, 0])

    def add(table: Mapping[tuple[str, ...], tuple[int, ...]], sign: int) -> None:
        for (month, group, section, *rest, corrected_month), amounts in table.items():
            if (corrected_month or month) in lake.closings:
                total = sums[corrected_month or month, group, section in SAVINGS_SECTIONS, *rest]
                for i, amount in enumerate(amounts):
                    total[i] += sign * amount

    add(cost_group_costs(run.result), 1)
    add(run.waiting_groups, 1)
    add(cost_group_costs(run.known), -1)
    return {key: tuple(amounts) for key, amounts in sums.items() if any(amounts)}


def items_are_whole(lake: Lake) -> Violations:
    """Σ_k D_k = C over closed and open months together: of every item that is distributed now all of its cost is booked.

    What is due in months that the lake does not have is added from the plan.
    """
    run = lake.last_run
    sums: dict[tuple[object, ...], list[int]] = defaultdict(lambda: [0, 0])

    def add(key: tuple[object, ...], sign: int, cost: int, effective: int) -> None:
        total = sums[key]
        total[0] += sign * cost
        total[1] += sign * effective

    for row in all_rows(lake):
        if row.item.category == "usage":
            continue
        key = (row.item.month, *row.item.key)
        if (row.corrected_kind or row.kind) != "item":
            add(key, 1, row.cost, row.effective_cost)
        elif row.status == "checked_allocated":
            add(key, -1, row.cost, row.effective_cost)
    for origin, reasons in run.known.distributed.items():
        for item, reason in reasons.items():
            if reason is None:
                rule = item.taker
                for k in range(rule.tranche_count):
                    if add_months(rule.first_booking_month(origin), k) not in run.result.months:
                        dues = (due(cost, k, rule.tranche_count) for cost in (item.cost, item.effective_cost))
                        add((origin, *item.key), 1, *dues)
    return {key: tuple(amounts) for key, amounts in sums.items() if any(amounts)}


def prepayments_roll(lake: Lake) -> Violations:
    """In a month opening + billed − booked = closing, and its closing is the opening of the next.

    Months of the lake that do not follow each other are not compared, nor a closed one with an open one before it.
    """
    table = prepayments(lake.last_run.result)
    wrong: Violations = {}
    for key, amounts in table.items():
        for opening, billed, booked, closing in (amounts[:4], amounts[4:]):
            if opening + billed - booked != closing:
                wrong["in the month", *key] = amounts
    nothing = (0,) * 8
    for month, after in zip(lake.months, lake.months[1:], strict=False):
        if after != add_months(month, 1) or (month not in lake.closings and after in lake.closings):
            continue
        for rest in {key[1:] for key in table if key[0] in (month, after)}:
            ends, starts = table.get((month, *rest), nothing), table.get((after, *rest), nothing)
            if (ends[3], ends[7]) != (starts[0], starts[4]):
                wrong["to the next month", month, *rest] = (ends, starts)
    return wrong


def costs_add_up(lake: Lake) -> Violations:
    """Σ final = Σ billed + Σ corrections of items and usage − Σ (closing − opening); the same amortised, with savings."""
    result = lake.last_run.result
    sums: Counter[tuple[object, ...]] = Counter()
    for (month, _, _, currency), amounts in account_costs(result).items():
        costs = dict(zip(ACCOUNT_COST_MEASURES, amounts, strict=True))
        saved = costs["savings_out"] - costs["savings_in"]
        saved += costs["corrections_savings_out"] - costs["corrections_savings_in"]
        sums["final", month, currency] += costs["final_cost"] - costs["billed"]
        sums["amortised", month, currency] += costs["amortised_final_cost"] - costs["effective"] - saved
        sums["steps", month, currency] += costs["step_in"] - costs["step_out"]
        sums["steps, effective", month, currency] += costs["step_effective_in"] - costs["step_effective_out"]
    for rows in result.rows.values():
        for row in rows:
            if row.corrected_kind == "item" and row.item.category in ("fee", "account", "usage"):
                sums["final", row.month, row.item.currency] -= row.cost
                sums["amortised", row.month, row.item.currency] -= row.effective_cost
    for (month, *_, currency), amounts in prepayments(result).items():
        sums["final", month, currency] += amounts[3] - amounts[0]
        sums["amortised", month, currency] += amounts[7] - amounts[4]
    return {key: amount for key, amount in sums.items() if amount}


def differences(lake: Lake, other: Lake) -> Violations:
    """Where two lakes differ once corrections are added to the months they correct.

    A lake that closed months and one that never did are the same so, where only deliveries and decisions changed.
    """
    sums: dict[tuple[object, ...], list[int]] = defaultdict(lambda: [0, 0])

    def add(key: tuple[object, ...], sign: int, cost: int, effective: int) -> None:
        total = sums[key]
        total[0] += sign * cost
        total[1] += sign * effective

    for of_lake, sign in ((lake, 1), (other, -1)):
        run = of_lake.last_run
        for row in all_rows(of_lake):
            add(("row", row.corrected_month or row.month, *key_of(row)), sign, row.cost, row.effective_cost)
        for month, of_month in run.result.months.items():
            items = of_lake.closings[month].items if month in of_lake.closings else run.result.items[month]
            for row in usage_rows(of_month, items):
                add(("row", month, *key_of(row)), sign, row.cost, row.effective_cost)
        for table in (cost_group_costs(run.result), run.waiting_groups):
            for (month, group, section, *rest, corrected_month), amounts in table.items():
                is_saving = section in SAVINGS_SECTIONS
                add(("group", corrected_month or month, group, is_saving, *rest), sign, *amounts)
        # What waits is on owners as if it were booked.
        result = replace(run.result, rows={**run.result.rows, WAITING: run.waiting}, months={**run.result.months})
        for owner, final, amortised in _owners_by_corrected_month(result):
            add(("owner", *owner), sign, final, amortised)
    return {key: tuple(amounts) for key, amounts in sums.items() if any(amounts)}


def _owners_by_corrected_month(result: Result) -> Iterable[tuple[tuple[str, ...], int, int]]:
    """Final and amortised cost by owner, with corrections in the months they correct."""
    rows: dict[str, list[Row]] = defaultdict(list)
    for of_month in result.rows.values():
        for row in of_month:
            rows[row.corrected_month or row.month].append(row)
    for key, amounts in account_costs(replace(result, rows=rows)).items():
        yield key, amounts[FINAL], amounts[FINAL + 1]
