"""Random lakes whose months close: what happens to one, drawn with dice, step by step."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random

from tests.support.oracle.case_folder import read_documents
from tests.support.oracle.closed_months import Accounts, Lake
from tests.support.oracle.documents import Documents
from tests.support.oracle.items import Item
from tests.support.oracle.lines import Line
from tests.torture.drawn_months import (
    ACCOUNTS,
    PAYERS,
    STRANGERS,
    draw,
    draw_allocator,
    draw_line,
    draw_metric,
    write_files,
)

MONTHS = ("2024-01", "2024-02", "2024-03", "2024-04", "2024-05")


@dataclass(frozen=True)
class Deliver:
    """Line items that replace their months."""

    lines: Sequence[Line]

    def apply(self, lake: Lake) -> None:
        lake.deliver(self.lines)


@dataclass(frozen=True)
class Edit:
    """Configuration files that are written, or removed where their text is None; and all that finance writes then."""

    files: Mapping[str, str | None]
    documents: Documents = field(repr=False)

    def apply(self, lake: Lake) -> None:
        lake.edit(self.documents)


@dataclass(frozen=True)
class Register:
    """All registered accounts, each a payer and an account."""

    accounts: Accounts

    def apply(self, lake: Lake) -> None:
        lake.register(self.accounts)


@dataclass(frozen=True)
class Restore:
    items: Sequence[Item]

    def apply(self, lake: Lake) -> None:
        lake.restore(item.key for item in self.items)


@dataclass(frozen=True)
class Reapply:
    items: Sequence[Item]

    def apply(self, lake: Lake) -> None:
        lake.reapply(item.key for item in self.items)


@dataclass(frozen=True)
class Run:
    """All months until then are run, in order."""

    months: Sequence[str]

    def apply(self, lake: Lake) -> None:
        lake.run(self.months)


@dataclass(frozen=True)
class Close:
    month: str

    def apply(self, lake: Lake) -> None:
        lake.close(self.month)


@dataclass(frozen=True)
class Reopen:
    month: str

    def apply(self, lake: Lake) -> None:
        lake.reopen(self.month)


Step = Deliver | Edit | Register | Restore | Reapply | Run | Close | Reopen


class Drawing:
    """Draws steps, and applies each to a lake, since what can happen next depends on what is there."""

    def __init__(self, dice: Random, features: frozenset[str], folder: Path) -> None:
        self._dice = dice
        self._features = features
        self._config = folder / "drawn"
        self.months = MONTHS[: dice.randint(3, 5)]
        self.drawn = draw(dice, features, self.months)
        self.drawn.edited_files = {}
        write_files(self._config, self.drawn.files)
        self.lake = Lake(containers=self.drawn.containers)
        self.steps: list[Step] = []
        self._delivered: list[str] = []

    def begin(self, count: int) -> None:
        """The documents, the registered accounts and the first months, run."""
        self._apply(Edit({}, read_documents(self._config)))
        self._apply(Register(self.drawn.registered))
        for _ in range(count):
            self.deliver_next()
        self.run()

    def run(self) -> None:
        self._apply(Run(tuple(self._delivered)))

    def deliver_next(self) -> None:
        """The first delivery of the next month, if there is another."""
        if len(self._delivered) < len(self.months):
            month = self.months[len(self._delivered)]
            lines = [line for line in self.drawn.lines if line.billing_month == month]
            self._apply(Deliver(lines or [draw_line(self._dice, self._features, [month])]))
            self._delivered.append(month)

    def restate(self) -> None:
        """Another delivery of a month: lines that are gone, new, of another cost or of another name."""
        month = self._dice.choice(self._delivered)
        lines = []
        for line in self.lake.lines[month]:
            other = draw_line(self._dice, self._features, [month])
            costs = {name: getattr(other, name) for name in ("billed_cost", "effective_cost", "list_cost")}
            match self._dice.choice(["same", "same", "same", "cost", "cost", "gone", "name", "other"]):
                case "same":
                    lines.append(line)
                case "cost":
                    lines.append(replace(line, **costs))
                case "name":
                    lines.append(replace(line, service_name=other.service_name))
                case "other":
                    lines.append(other)
        lines += [draw_line(self._dice, self._features, [month]) for _ in range(self._dice.choice([0, 1, 3]))]
        self._apply(Deliver(lines or [draw_line(self._dice, self._features, [month])]))

    def edit_rule(self) -> None:
        """Another rule, one less, or one with other instalments, formulas or targets."""
        paths = sorted(self._config.glob("allocators/*.json"))
        path = self._dice.choice(paths)
        document = json.loads(path.read_text())
        change = self._dice.choice(["new", "gone", "one", "three", "redrawn", "formulas"])
        spreads = document["category"] != "balance"
        match change:
            case "new":
                path = path.with_name(f"b{len(self.steps)}.json")
                document = draw_allocator(self._dice, self._features, self.drawn.groups)
            case "gone" if len(paths) > 1:
                self._write({f"allocators/{path.name}": None})
                return
            case "one":
                document["allocator"] = [{**entry, "months": 1} for entry in document["allocator"]] if spreads else []
            case "three":
                document["allocator"] = [{**entry, "months": 3} for entry in document["allocator"]] if spreads else []
            case "formulas":
                document["allocator"] = [
                    {**entry, "formula": self._dice.choice(["cost*usage", "cost*0.25", "cost", "1/cost"])}
                    for entry in document["allocator"]
                ]
            case _:
                document = draw_allocator(self._dice, self._features, self.drawn.groups)
        if document["allocator"]:
            self._write({f"allocators/{path.name}": json.dumps(document)})

    def edit_other(self) -> None:
        """Cost groups, a metric or rates."""
        plain = [group["id"] for group in self.drawn.groups if "by" not in group]
        families = [group["id"] for group in self.drawn.groups if "by" in group and "of" not in group]
        match self._dice.choice(["groups", "groups", "family", "metric", "rates"]):
            case "groups" if len(plain) > 1:
                changed, other = self._dice.sample(plain, 2)
                files = {name: json.loads((self._config / f"cost_groups/{name}.json").read_text()) for name in plain}
                self._write({f"cost_groups/{changed}.json": json.dumps({**files[other], "id": changed})})
            case "family" if families:
                name = self._dice.choice(families)
                document = json.loads((self._config / f"cost_groups/{name}.json").read_text())
                by = self._dice.choice([{"tag": "team"}, {"projectLabel": "env"}, {"account": True}, {"payer": True}])
                self._write({f"cost_groups/{name}.json": json.dumps({**document, "by": by})})
            case "metric" if "metrics" in self._features:
                self._write({"metrics/heads.csv": draw_metric(self._dice, self.months)})
            case _:
                rates = [f"{m},{c},{self._dice.choice([0.5, 1, 4])}" for m in self.months for c in ("EUR", "JPY")]
                earliest = ["2023-11,EUR,1.25", "2023-11,JPY,0.0078125"]
                chosen = [rate for rate in rates if self._dice.random() < 0.5]
                self._write({"exchange_rates.csv": "\n".join(["month,currency,rate", *earliest, *chosen]) + "\n"})

    def register(self) -> None:
        pairs = [(payer, account) for payer in PAYERS["aws"] for account in (*STRANGERS, ACCOUNTS[0])]
        accounts = {account: (payer, account) for payer, account in pairs if self._dice.random() < 0.4}
        self._apply(Register(frozenset(accounts.values())))

    def restore(self) -> None:
        distributed = self.lake.last_run.known.distributed
        items = (item for reasons in distributed.values() for item, reason in reasons.items() if reason is None)
        # Two decisions can follow each other without a run between them.
        undecided = (item for item in items if item.key not in self.lake.restored)
        self._decide(Restore, filter(self._can_be_named, undecided))

    def reapply(self) -> None:
        items = self.lake.last_run.known.items.values()
        restored = (item for of_month in items for item in of_month if item.key in self.lake.restored)
        self._decide(Reapply, filter(self._can_be_named, restored))

    def _can_be_named(self, item: Item) -> bool:
        """Whether a decision can name the item, and no other one.

        A decision on an item without a seller holds for those of its grain that have one. A balance that a month has only since
        it was closed is in no list of items, as long as the month is not open and run.
        """
        was_closed = item.month in self.lake.closings or item.month in self.lake.reopened
        return not (item.category == "balance" and was_closed) and item.columns.get("publisher_name") is None

    def close(self) -> None:
        """Close the oldest open month; rarely the only one, since corrections would wait."""
        open_months = [month for month in self.lake.months if month not in self.lake.closings]
        if len(open_months) > 1 or (open_months and self._dice.random() < 0.2):
            self._apply(Close(open_months[0]))

    def reopen(self) -> None:
        """Open the newest closed month."""
        if self.lake.closings:
            self._apply(Reopen(max(self.lake.closings)))

    def _decide(self, decision: type[Restore] | type[Reapply], items: Iterable[Item]) -> None:
        ordered = sorted(items, key=lambda item: repr(item.key))
        if ordered:
            self._apply(decision(tuple(self._dice.sample(ordered, min(len(ordered), self._dice.randint(1, 3))))))

    def _write(self, files: Mapping[str, str | None]) -> None:
        write_files(self._config, {name: text for name, text in files.items() if text is not None})
        for name, text in files.items():
            if text is None:
                (self._config / name).unlink()
        self._apply(Edit(files, read_documents(self._config)))

    def _apply(self, step: Step) -> None:
        step.apply(self.lake)
        self.steps.append(step)


def draw_sequence(dice: Random, features: frozenset[str], folder: Path, *, edits: bool) -> Iterable[Drawing]:
    """A sequence as it grows: after each run, and at the end after another one.

    Args:
        dice: the dice.
        features: what its world may use.
        folder: where its configuration is written.
        edits: whether documents and registered accounts change, beside deliveries and decisions.
    """
    drawing = Drawing(dice, features, folder)
    drawing.begin(dice.randint(2, len(drawing.months)))
    yield drawing
    changes = [
        drawing.restate,
        drawing.restate,
        drawing.restore,
        drawing.restore,
        drawing.reapply,
        drawing.deliver_next,
    ]
    if edits:
        changes += [drawing.edit_rule, drawing.edit_rule, drawing.edit_other, drawing.register]
    for _ in range(dice.randint(3, 6)):
        for _ in range(dice.choice([0, 1, 1, 1, 2])):
            drawing.close()
        if dice.random() < 0.2:
            drawing.reopen()
        for change in dice.choices(changes, k=dice.randint(1, 3)):
            change()
        drawing.run()
        yield drawing


def replayed(drawing: Drawing, steps: Iterable[Step], lake: Lake | None = None) -> Lake:
    """The lake to which other steps have happened; an empty one without any."""
    lake = lake or Lake(containers=drawing.drawn.containers)
    for step in steps:
        step.apply(lake)
    return lake


def without_closings(steps: Iterable[Step]) -> list[Step]:
    """The steps of a lake whose months never close."""
    return [step for step in steps if not isinstance(step, Close | Reopen)]


def without_reopened(steps: Iterable[Step]) -> list[Step]:
    """The steps without the closings that were taken back, and their reopening."""
    kept: list[Step] = []
    for step in steps:
        if isinstance(step, Reopen):
            last = max(i for i, earlier in enumerate(kept) if earlier == Close(step.month))
            del kept[last]
        else:
            kept.append(step)
    return kept
