"""The data sets of FOCUS 1.4 beside Cost and Usage: Billing Period and Invoice Detail, as SQL over the lake."""

import json
from collections.abc import Sequence
from datetime import UTC, datetime

from octo_pipeline.model.columns import LINE_ITEM_COLUMNS, LINE_ITEMS
from octo_pipeline.model.sql import Sql
from octo_pipeline.model.templates import render
from octo_pipeline.outputs.focus.columns import BILLING_PERIOD, INVOICE_DETAIL, in_words_of_the_lake
from octo_pipeline.outputs.focus.month_charges import vendor_names
from octo_pipeline.tables.invoice_costs import InvoiceCosts
from octo_pipeline.tables.landed_charges import counted_deliveries
from octo_pipeline.workspace import Workspace


def datasets(workspace: Workspace, month: str) -> dict[str, Sql]:
    """The data sets of a month: the name of each one's folder -> SQL of its rows.

    Args:
        workspace: the lake.
        month: a month that was run.
    """
    lake = workspace.lake
    issued = render(
        "outputs/focus/issued_lines",
        line_items=lake.scan(LINE_ITEMS, [month], LINE_ITEM_COLUMNS),
        vendor_names=vendor_names(),
    )
    created, updated = _times(workspace, month)
    times = {"created": f"{created:%Y-%m-%d %H:%M:%S}", "updated": f"{updated:%Y-%m-%d %H:%M:%S}"}
    period = render(
        "outputs/focus/billing_period",
        issued_lines=issued,
        month=month,
        period_status="Closed" if workspace.is_closed(month) else "Open",
        **times,
    )
    invoices = render(
        "outputs/focus/invoice_detail",
        detail_grain=json.dumps({"Columns": ["BillingAccountId", "BillingCurrency", "ChargeCategory", "InvoiceId"]}),
        invoice_costs=lake.scan(InvoiceCosts.name, [month], InvoiceCosts.columns),
        issued_lines=issued,
        month=month,
        **times,
    )
    return {"billing_period": _named(period, BILLING_PERIOD), "invoice_detail": _named(invoices, INVOICE_DETAIL)}


def _named(query: Sql, names: Sequence[str]) -> Sql:
    return render("outputs/focus/named", named_columns=in_words_of_the_lake(names), query=query)


def _times(workspace: Workspace, month: str) -> tuple[datetime, datetime]:
    """When the lake first had something of the month, and when it last changed or was closed or reopened."""
    landed = [delivery.fetched_at for delivery in counted_deliveries(workspace, month)]
    period = workspace.periods.get(month)
    decided = [event.at for event in period.events if not event.is_proposal] if period else []
    # Line items that somebody published without a delivery have no time of their own.
    start = datetime(int(month[:4]), int(month[5:]), 1, tzinfo=UTC)
    times = [time.astimezone(UTC) for time in (*landed, *decided)] or [start]
    return min(times), max(times)
