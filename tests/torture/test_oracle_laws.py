"""The laws that hold of any allocation (allocation.md §12), asked of the oracle: it is no judge if it breaks them."""

from collections import Counter
from pathlib import Path

from tests.support.oracle.months import allocate
from tests.support.oracle.results import ACCOUNT_COST_MEASURES, account_costs, cost_group_costs, prepayments
from tests.torture.chance import Dice, rounds
from tests.torture.drawn_months import FAMILIES_OF_EVERYTHING, draw
from tests.torture.random_worlds import FEATURES, world_of


@rounds(10, 300)
def test_owners_and_groups_add_up(dice: Dice, tmp_path: Path) -> None:
    drawn = draw(dice, FEATURES)
    drawn.edited_files.clear()
    result = allocate(world_of(drawn, tmp_path))
    sums: Counter[tuple[str, ...]] = Counter()
    families = [name for name in FAMILIES_OF_EVERYTHING if f"cost_groups/{name}.json" in drawn.files]
    for (month, kind, owner, currency), amounts in account_costs(result).items():
        costs = dict(zip(ACCOUNT_COST_MEASURES, amounts, strict=True))
        moved_effective = costs["effective_in"] - costs["effective_out"]
        sums["prepaid", month, currency] += costs["final_cost"] - costs["billed"]
        sums["prepaid, effective", month, currency] += moved_effective
        sums["steps", month, currency] += costs["step_in"] - costs["step_out"]
        sums["steps, effective", month, currency] += costs["step_effective_in"] - costs["step_effective_out"]
        for family in families:
            if kind == "account" or owner.startswith(f"{family}/"):
                sums[family, month, currency] -= costs["final_cost"]
                sums[f"{family}, effective", month, currency] -= (
                    costs["amortised_final_cost"] - costs["savings_out"] + costs["savings_in"]
                )
    for (month, *_, currency), amounts in prepayments(result).items():
        sums["prepaid", month, currency] += amounts[3] - amounts[0]
        sums["prepaid, effective", month, currency] += amounts[7] - amounts[4]
    for (month, group, section, _, _, currency, _), (cost, effective) in cost_group_costs(result).items():
        family = group.partition("/")[0]
        if family in families and section != "savings":
            sums[family, month, currency] += cost
            sums[f"{family}, effective", month, currency] += effective
    assert {key: amount for key, amount in sums.items() if amount} == {}
