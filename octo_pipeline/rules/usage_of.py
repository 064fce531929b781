"""What an allocator weighs its targets by: the value of ``usageOf`` (allocation.md §15).

How weights are summed belongs in `allocation.shares`; the quantities of a metric belong in `metrics`.
"""

from dataclasses import dataclass
from typing import Literal

from octo_pipeline.model.wording import quoted_json
from octo_pipeline.rules.documents import Location, is_id, not_text, refuse

_ALLOWED = '"account", "matched", {"costGroup": ID} or {"metric": ID, "carryForward": true}'


@dataclass(frozen=True)
class UsageOf:
    """What is weighed.

    Attributes:
        kind: ``account``: all usage of an account. ``matched``: of an account that a cost group or payer stands for, only
            the usage that this group or payer has. ``costGroup``: only the usage that one cost group matches.
            ``metric``: a quantity from outside.
        id: the cost group or metric.
        carry_forward: whether the newest earlier month of the metric counts where the month has none.
    """

    kind: Literal["account", "matched", "costGroup", "metric"] = "account"
    id: str = ""
    carry_forward: bool = False

    @property
    def written(self) -> str | dict[str, object]:
        """It as JSON value."""
        if not self.id:
            return self.kind
        return {self.kind: self.id} | ({"carryForward": True} if self.carry_forward else {})


def parse_usage_of(value: object) -> UsageOf:
    """Read the value of ``usageOf``.

    Raises:
        ValueError: it is something else; with every flaw in it.
    """
    if value == "account":
        return UsageOf()
    if value == "matched":
        return UsageOf("matched")
    if not isinstance(value, dict):
        raise ValueError(f"{quoted_json(value)} is unknown; allowed: {_ALLOWED}")
    kinds = sorted(value.keys() & {"costGroup", "metric"})
    if len(kinds) != 1:
        raise ValueError(f"must name one of costGroup and metric, not {quoted_json(value)}; allowed: {_ALLOWED}")
    (kind,) = kinds
    keys = [kind, "carryForward"] if kind == "metric" else [kind]
    flaws: list[tuple[Location, str]] = [
        ((key,), f"unknown key; allowed: {', '.join(keys)}") for key in value if key not in keys
    ]
    name = value[kind]
    if not isinstance(name, str):
        flaws.append(((kind,), not_text(name)))
    elif not name.strip():
        flaws.append(((kind,), f"is blank; it must be the id of a {'metric' if kind == 'metric' else 'cost group'}"))
    elif kind == "metric" and not is_id(name.strip()):
        flaws.append(((kind,), f"{quoted_json(name)} is not a valid id; a metric is named like its file"))
    carry_forward = value.get("carryForward") or False
    if not isinstance(carry_forward, bool):
        flaws.append((("carryForward",), f"must be true or false, not {quoted_json(carry_forward)}"))
    if flaws:
        refuse(flaws)
    return UsageOf("metric" if kind == "metric" else "costGroup", name.strip(), bool(carry_forward))
