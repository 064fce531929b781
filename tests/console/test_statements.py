"""Statements, the journal and FOCUS in the console: who pays what, as pages, files and mail."""

import io
import re
from base64 import b64encode
from hashlib import sha256
from zipfile import ZipFile

import pytest

from octo_pipeline.outputs import statement_mail
from octo_pipeline.outputs.statement_mail import Sent
from tests.support.small_month import MONTH

CENTRES = (
    "owner_type,owner_id,cost_centre,ledger_account,name,email\n"
    "account,1,CC-1,6400,=Team <script>alert(1)</script>,one@example.com\n"
    "account,2,CC-2,6400,Two,\n"
)
OF_ACCOUNT_2 = f"/statements/of?month={MONTH}&by=account&owner=account/2"


@pytest.fixture
def centred(own_console):
    """A console whose accounts have cost centres."""
    (own_console.workspace.settings.config / "cost_centres.csv").write_text(CENTRES)
    return own_console


def test_who_pays_what_is_listed_and_adds_up_to_the_journal(console):
    text = console.text(f"/statements?month={MONTH}&by=account")
    assert "provisional" in text and "2 statements 140.00 USD" in text
    assert "Account 35.00 USD" in text and "Account 105.00 USD" in text
    found = console.page(f"/statements?month={MONTH}&by=account&text=2").partition('id="list"')[2]
    assert "105.00" in found and "35.00" not in found.partition("<tfoot>")[0]
    assert "Nobody is like that" in console.text("/statements?text=nobody")
    for path in ("/statements?by=planet", "/statements?cursor=-1"):
        assert console.get(path).status_code == 422


def test_a_statement_is_a_page_that_can_run_nothing_and_a_file(console):
    page = console.get(OF_ACCOUNT_2)
    (style,) = re.findall(r"<style>(.*?)</style>", page.text, re.DOTALL)
    digest = b64encode(sha256(style.encode()).digest()).decode()
    policy = page.headers["content-security-policy"]
    assert f"style-src 'sha256-{digest}'" in policy and policy.endswith("sandbox") and "unsafe" not in policy
    assert "105.00" in page.text
    pdf = console.get(f"{OF_ACCOUNT_2}&file=pdf")
    assert pdf.content.startswith(b"%PDF-") and f"{MONTH}-2.pdf" in pdf.headers["content-disposition"]
    lines = console.get(f"{OF_ACCOUNT_2}&file=csv").text.splitlines()
    assert lines[0] == "month,kind,id,name,currency,part,what,detail,amount"
    assert f"{MONTH},Account,2,2,USD,To pay,,,105.00" in lines
    paid = [
        line.rpartition(",")[2] for line in lines if ",Own usage and fees," in line or ",Allocated by rules," in line
    ]
    assert sorted(paid) == ["30.00", "75.00"]
    assert console.get(OF_ACCOUNT_2.replace("/2", "/nobody")).status_code == 404


def test_all_statements_come_as_one_zip(console):
    answer = console.get(f"/statements/all.zip?month={MONTH}&by=account")
    assert answer.headers["content-type"] == "application/zip"
    with ZipFile(io.BytesIO(answer.content)) as zipped:
        assert zipped.testzip() is None
        names = [f"{MONTH}-{account}.{ending}" for account in "12" for ending in ("pdf", "html", "csv")]
        assert zipped.namelist() == names
        assert b"105.00" in zipped.read(f"{MONTH}-2.html")


def test_the_journal_shows_its_lines_sums_and_proofs(centred):
    text = centred.text(f"/statements/journal?month={MONTH}&by=account")
    assert "holds the debits of each entry are its credits" in text and "105.00" in text
    assert "<script>alert" not in centred.page(f"/statements/journal?month={MONTH}")
    file = centred.get(f"/statements/journal/file?month={MONTH}&by=cost-centre")
    assert file.headers["content-type"].startswith("text/csv") and "'=Team" in file.text
    workbook = centred.get(f"/statements/journal/file?month={MONTH}&by=account&file=xlsx")
    assert ZipFile(io.BytesIO(workbook.content)).testzip() is None


def test_a_journal_that_cannot_be_made_says_why(console):
    text = console.text(f"/statements/journal?month={MONTH}&by=cost-centre")
    assert "cost_centres.csv" in text and "holds" not in text


def test_focus_is_downloaded(console):
    parquet = console.get(f"/statements/focus?month={MONTH}&version=1.2")
    assert parquet.content.startswith(b"PAR1") and f"focus-{MONTH}.parquet" in parquet.headers["content-disposition"]
    assert console.get(f"/statements/focus?month={MONTH}&version=9").status_code == 422
    assert console.get("/statements/focus?month=1999-01").status_code == 404


def test_statements_are_sent_after_it_is_shown_to_whom(centred, monkeypatch):
    refused = centred.get(f"/statements/send?month={MONTH}&by=cost-centre", "admin")
    assert refused.status_code == 422 and "the mail server" in refused.text
    assert "Send by mail" not in centred.text("/statements", "admin")
    monkeypatch.setattr(centred.client("admin").app.state.pages.state, "settings", with_mail(centred))

    assert "Send by mail" in centred.text("/statements", "admin")
    assert "Send by mail" not in centred.text("/statements")
    text = centred.text(f"/statements/send?month={MONTH}&by=cost-centre", "admin")
    assert "one@example.com 35.00 USD" in text and "Send 1 statement" in text and "1 gets none" in text
    assert centred.get(f"/statements/send?month={MONTH}", "editor").status_code == 403
    assert centred.post("/statements/send", "editor", {"month": MONTH}).status_code == 403

    sent = []

    def record(statements, _):
        sent.extend(statements)
        return [Sent(statement, "") for statement in statements]

    monkeypatch.setattr("octo_pipeline.api.work.send", record)
    answer = centred.post("/statements/send", "admin", {"month": MONTH, "by": "cost-centre"})
    operations = centred.client("admin").app.state.operations
    work = operations.get(answer.headers["location"].rpartition("/")[2])
    operations.wait_for_news(work, 99, 30)
    assert work.state == "succeeded", work.problem
    assert [statement.email for statement in sent] == ["one@example.com"]
    assert "sent to one@example.com" in work.events[0]
    assert centred.workspace.registry.audit(1)[0].action == "send_statements"


def with_mail(console):
    """The settings of an installation that has a mail server."""
    settings = console.workspace.settings.model_copy(
        update={"smtp_host": "localhost", "smtp_from": "finance@example.com", "smtp_security": "none"}
    )
    statement_mail.require_server(settings)
    return settings
