"""Statements: cents that are the journal's, pages that no name breaks, and mail."""

import json
import re
import socket
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from email import message_from_bytes, policy
from ipaddress import ip_address
from pathlib import Path

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import AuthResult
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from typer.testing import CliRunner

from octo_pipeline.allocation.proofs import ProofError
from octo_pipeline.cli.main import app
from octo_pipeline.model.errors import OctoError
from octo_pipeline.outputs import statement_pages
from octo_pipeline.outputs.journal import journal_of
from octo_pipeline.outputs.statement_mail import message_of, send
from octo_pipeline.outputs.statement_pages import file_stem, html_page, pdf_page, write_pages
from octo_pipeline.outputs.statements import Block, Line, Section, Statement, statements_of
from octo_pipeline.settings import Settings
from octo_pipeline.workspace import Workspace
from tests.support.case import make, run
from tests.support.closing import close_months
from tests.support.small_month import MONTH, invoiced, line_item
from tests.support.tables import MART_TABLES
from tests.support.workspaces import workspace_in, write_lines

NEXT = "2024-02"
CENTRES = """owner_type,owner_id,cost_centre,ledger_account,name,email
account,re:^[12]$,CC-1,6400,決済 & <b>Co</b>,pay@example.com
account,9,CC-9,6400,,refused@example.com
"""
RATES = "month,currency,rate\n2024-01,JPY,0.01\n2024-01,KWD,3\n"
# Usage in thirds, so that nothing is divided into cents without a rest.
FEES = {"USD": "100", "JPY": "100", "KWD": "10.0005"}


def lines_of(month: str, **fees: str) -> list:
    rows = [
        line_item(account, cost, billing_month=month, billing_currency=currency)
        for currency in FEES
        for account, cost in (("1", "10.004"), ("2", "10.004"), ("3", "10.004"), ("9", "1"))
    ]
    for currency, fee in (FEES | fees).items():
        rows.append(
            line_item(
                "9", fee, "Fee", "Purchase", billing_month=month, billing_currency=currency, service_code="Support"
            )
        )
    rows.append(line_item("9", "120", "Yearly", "Purchase", billing_month=month, service_code="Contract"))
    return [
        invoiced(replace(row, billing_account_id="p", sub_account_name=f"Team {row.sub_account_id}"), month)
        for row in rows
    ]


def rule(line_type: str, **more: object) -> dict:
    entries = [{"type": "account", "value": account, **more} for account in "123"]
    return {
        "name": f"The {line_type}",
        "startMonth": MONTH,
        "criteria": [{"and": {"lineType": line_type}}],
        "allocator": entries,
    }


def made(workspace: Workspace, *months: str) -> Workspace:
    fresh = run(workspace, list(months))
    for table in MART_TABLES:
        fresh = make(fresh, table, list(months))
    return Workspace(fresh.settings)


@pytest.fixture(scope="module")
def lake(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """Two months; January is closed, and was delivered again with another fee."""
    folder = tmp_path_factory.mktemp("statements")
    rules = [rule("Fee"), rule("Yearly", months=3)]
    workspace = workspace_in(folder, [*lines_of(MONTH), *lines_of(NEXT, USD="250")], rules)
    (workspace.settings.config / "cost_centres.csv").write_text(CENTRES, encoding="utf-8")
    (workspace.settings.config / "exchange_rates.csv").write_text(RATES)
    filters = [{"andFilters": {"account": "re:^[12]$"}}]
    pair = {"id": "pair", "combinations": {"awsOptions": {"filters": filters}}}
    (workspace.settings.config / "cost_groups" / "pair.json").write_text(json.dumps(pair))
    close_months(made(workspace, MONTH, NEXT), [MONTH])
    write_lines(workspace, folder, lines_of(MONTH, USD="130"))
    return made(Workspace(workspace.settings), MONTH, NEXT)


def number(text: str) -> Decimal:
    return Decimal(text.replace("−", "-").replace(",", ""))


@pytest.mark.parametrize("month", [MONTH, NEXT])
@pytest.mark.parametrize("by", ["cost-centre", "account", "group"])
def test_statements_add_up_to_the_journal_in_cents(lake, month, by):
    statements = statements_of(lake, month, by=by)
    sections = [section for statement in statements for section in statement.sections]
    for section in sections:
        assert sum(number(block.total) for block in section.blocks) == number(section.total)
        for block in section.blocks:
            assert sum(number(line.amount) for line in block.lines) == number(block.total)
        if section.previous:
            assert number(section.previous) + number(section.change) == number(section.total)
            assert sum(number(cause.amount) for cause in section.causes) == number(section.change)
        assert len(section.total.partition(".")[2]) == {"USD": 2, "JPY": 0, "KWD": 3}[section.currency]
    posted: dict[str, Decimal] = {}
    for posting, currency, debit, credit in journal_of(lake, month, by).lines.select(
        "posting", "currency", "debit", "credit"
    ):
        if posting == "cost":
            posted[currency] = posted.get(currency, Decimal(0)) + Decimal(debit or 0) - Decimal(credit or 0)
    paid = {currency: sum(number(s.total) for s in sections if s.currency == currency) for currency in FEES}
    assert paid == posted


def test_the_accounts_of_a_cost_group_stand_on_its_page(lake):
    statements = {statement.subject: statement for statement in statements_of(lake, NEXT, by="group")}
    assert statements["group/pair"].owners == ("Team 1 (1)", "Team 2 (2)")
    assert not {"account/1", "account/2"} & statements.keys()


def test_a_statement_says_what_it_is_made_of(lake):
    statement = next(s for s in statements_of(lake, NEXT) if s.subject == "CC-1")
    assert (statement.title, statement.email, statement.state) == ("決済 & <b>Co</b>", "pay@example.com", "provisional")
    assert statement.owners == ("Team 1 (1)", "Team 2 (2)")
    section = next(section for section in statement.sections if section.currency == "USD")
    blocks = {block.title: [(line.what, line.detail, line.amount) for line in block.lines] for block in section.blocks}
    assert blocks == {
        "Own usage and fees": [("AmazonEC2", "", "20.01")],
        "Allocated by rules": [("The Fee", "66.67\u00a0% of 250.00", "166.67")],
        "Instalments of what was paid before": [
            ("x", "2 of 3, billed in 2024-01, The Yearly", "26.67"),
            ("x", "1 of 3, billed in 2024-02, The Yearly", "26.66"),
        ],
        "Corrections of closed months": [("Correction of 2024-01", "The Fee", "20.00")],
    }
    assert set(blocks) == {
        "Own usage and fees", "Allocated by rules", "Instalments of what was paid before", "Corrections of closed months",
    }  # fmt: skip
    assert section.previous == "113.34"
    assert [cause.what for cause in section.causes][:1] == ["Rule The Fee: what it books, from 100.00 to 250.00"]


def test_a_closed_month_says_so_and_the_first_month_has_no_change(lake):
    statements = statements_of(lake, MONTH, ["1"])
    assert [(s.kind, s.id, s.title) for s in statements] == [("Account", "1", "Team 1")]
    assert statements[0].state.startswith("closed on ")
    assert not statements[0].is_provisional
    assert [(s.previous, s.causes) for s in statements[0].sections] == [("", ())] * 3


@pytest.mark.parametrize(
    ("owner", "month", "sentence"),
    [
        ("CC-11", NEXT, "No account, cost group or cost centre 'CC-11' has costs in 2024-02. Did you mean CC-1?"),
        ("zzz", NEXT, "No account, cost group or cost centre 'zzz' has costs in 2024-02."),
        ("1", "2024-05", "The lake has no account costs of 2024-05."),
    ],
)
def test_who_has_no_costs_is_said(lake, owner, month, sentence):
    with pytest.raises(OctoError) as error:
        statements_of(lake, month, [owner])
    assert str(error.value) == sentence


def statement_called(name: str, **more: object) -> Statement:
    lines = (Line(name, name, "−1,234.50"), Line("b", "", "1,234.50"))
    section = Section(
        "USD", "0.00", "1.00", (Block("Own usage and fees", lines, "0.00"),), lines, "1.00", "−1.00", lines
    )
    values = {
        "subject": name, "id": name, "kind": "Cost centre", "name": name, "email": "a@example.com", "month": MONTH,
        "previous_month": "2023-12", "state": "provisional", "owners": (name,), "sections": (section,),
    }  # fmt: skip
    return Statement(**values | more)


SCRIPTS = [
    "決済チーム 東京", "团队 支付", "팀 결제", "فريق المدفوعات", "Ομάδα πληρωμών", "Платежи и учёт", "ทีมชำระเงิน", "צוות תשלומים", "भुगतान दल",
    "দল", "அணி", "గుంపు", "ჯგუფი", "Խումբ", "ቡድን", "ក្រុម", "ທີມ", "Đội thanh toán Łódź ₿ €",
]  # fmt: skip


@pytest.mark.parametrize("name", SCRIPTS)
def test_every_character_of_a_name_has_a_glyph(name):
    """A PDF/A is refused where a character has none."""
    compiler = statement_pages._compiler()
    inputs = statement_pages._inputs(statement_called(name))
    assert compiler.compile(format="pdf", sys_inputs=inputs, pdf_standards="a-2b", timestamp=0).startswith(b"%PDF")
    assert name in html_page(statement_called(name))


@pytest.mark.parametrize(
    "name",
    [
        '*bold* #panic("x") <a> $x^2$ `r` \\ @ref', "= Heading /* // ", "<script>alert(1)</script>", "x" * 2000, "W-" * 400,
        "a\x00b\x1b[31m\u202etxt\n\n\t", '"}, panic()', "", " ", "{{ 7 * 7 }}{% raw %}",
    ],
)  # fmt: skip
def test_no_name_breaks_a_page(name):
    statement = statement_called(name)
    assert pdf_page(statement).startswith(b"%PDF")
    page = html_page(statement)
    assert "<script" not in page
    assert "\x1b" not in page
    assert re.fullmatch(r"2024-01-[\w.-]{0,100}", file_stem(statement))


def test_files_of_ids_that_are_alike_differ(tmp_path):
    statements = [statement_called(name) for name in ("a/b", "a b", "a_b", "../a_b", "a" * 200, "a" * 201)]
    pdfs = write_pages(statements, tmp_path / "out")
    assert len(set(pdfs)) == 6
    assert {path.parent for path in pdfs} == {tmp_path / "out"}
    assert len(list((tmp_path / "out").iterdir())) == 12


class Mailbox:
    """A mail server that refuses one recipient."""

    def __init__(self) -> None:
        self.messages: list = []

    async def handle_RCPT(self, server, session, envelope, address, rcpt_options):
        if address.startswith("refused"):
            return "550 no such mailbox"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server, session, envelope):
        self.messages.append((envelope.rcpt_tos, message_from_bytes(envelope.content, policy=policy.default)))
        return "250 OK"


@contextmanager
def served(monkeypatch: pytest.MonkeyPatch, security: str, **options: object) -> Iterator[Mailbox]:
    """A mail server that the settings name."""
    box = Mailbox()
    # The controller connects to the port that it was given, so it cannot be given 0.
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    controller = Controller(box, hostname="127.0.0.1", port=port, **options)
    controller.start()
    monkeypatch.setenv("OCTO_SMTP_HOST", "127.0.0.1")
    monkeypatch.setenv("OCTO_SMTP_PORT", str(port))
    monkeypatch.setenv("OCTO_SMTP_SECURITY", security)
    monkeypatch.setenv("OCTO_SMTP_FROM", "finance@example.com")
    try:
        yield box
    finally:
        controller.stop()


@pytest.fixture
def mailbox(monkeypatch: pytest.MonkeyPatch) -> Iterator[Mailbox]:
    with served(monkeypatch, "none") as box:
        yield box


def test_statements_are_sent_to_the_emails_of_cost_centres(lake, mailbox, monkeypatch, tmp_path):
    monkeypatch.setenv("OCTO_LAKE", str(lake.settings.lake))
    monkeypatch.setenv("OCTO_CONFIG", str(lake.settings.config))
    command = ["statements", str(tmp_path / "out"), "--month", NEXT, "--send"]
    listed = CliRunner().invoke(app, [*command, "--dry-run"])
    assert listed.exit_code == 0, listed.output
    assert "pay@example.com" in listed.output
    assert (mailbox.messages, (tmp_path / "out").exists()) == ([], False)

    result = CliRunner().invoke(app, command)
    assert "1 statement sent." in result.output
    assert "Nobody got 1 statement, for want of an email in cost_centres.csv: unmapped." in result.output
    assert str(result.exception) == (
        "1 statement not sent. CC-9: the server refuses refused@example.com: 550 no such mailbox."
    )
    ((recipients, message),) = mailbox.messages
    assert recipients == ["pay@example.com"]
    assert message["Subject"] == "Cloud costs of 2024-02: 決済 & <b>Co</b> (provisional)"
    (attached,) = message.iter_attachments()
    assert attached.get_filename() == "2024-02-CC-1.pdf"
    assert attached.get_content().startswith(b"%PDF")
    assert (tmp_path / "out" / "2024-02-CC-1.pdf").exists()


def test_a_name_adds_no_header_to_a_message():
    message = message_of(replace(statement_called("a"), name="x\r\nBcc: all@example.com"), "f@example.com")
    assert message["Subject"] == "Cloud costs of 2024-01: x␍␊Bcc: all@example.com (provisional)"
    assert message["Bcc"] is None


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({}, "mail-server-not-set"),
        ({"smtp_host": "mail.example.com"}, "mail-server-not-set"),
        (
            {"smtp_host": "mail.example.com", "smtp_from": "f@example.com", "smtp_security": "none"},
            "mail-not-encrypted",
        ),
        ({"smtp_host": "127.0.0.1", "smtp_from": "f@example.com", "smtp_port": 1}, "mail-server-failed"),
    ],
)
def test_what_cannot_be_sent_is_said(settings, code):
    with pytest.raises(OctoError) as error:
        send([statement_called("a")], Settings(**settings))
    assert error.value.code == code


def test_a_server_without_encryption_is_not_signed_in_to(mailbox, monkeypatch):
    monkeypatch.setenv("OCTO_SMTP_SECURITY", "starttls")
    with pytest.raises(OctoError, match="STARTTLS"):
        send([statement_called("a")], Settings())
    assert mailbox.messages == []


def test_nothing_is_written_if_the_amounts_do_not_add_up(lake, monkeypatch, tmp_path):
    """Line items that were delivered after the month was made. The last test of the lake, which it changes."""
    monkeypatch.setenv("OCTO_LAKE", str(lake.settings.lake))
    monkeypatch.setenv("OCTO_CONFIG", str(lake.settings.config))
    write_lines(Workspace(lake.settings), tmp_path, lines_of(NEXT, USD="300"))
    result = CliRunner().invoke(app, ["statements", str(tmp_path / "out"), "--month", NEXT])
    assert isinstance(result.exception, ProofError)
    assert not Path(tmp_path / "out").exists()


@pytest.fixture(scope="module")
def certificate(tmp_path_factory) -> Path:
    """A certificate of this machine that it signed itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "mail of a test")])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    file = tmp_path_factory.mktemp("certificate") / "mail.pem"
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    file.write_bytes(key.private_bytes(*form) + certificate.public_bytes(Encoding.PEM))
    return file


def signed_in(server, session, envelope, mechanism, data) -> AuthResult:
    return AuthResult(success=(data.login, data.password) == (b"octo", b"secret"), handled=False)


@contextmanager
def encrypted(monkeypatch: pytest.MonkeyPatch, security: str, certificate: Path) -> Iterator[Mailbox]:
    """A mail server that people sign in to, encrypted from the start or by STARTTLS."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    options = {
        "starttls": {"tls_context": context, "require_starttls": True, "auth_required": True},
        # That the connection is encrypted already is not known to the server's own rule.
        "tls": {"ssl_context": context, "auth_require_tls": False},
    }
    with served(monkeypatch, security, authenticator=signed_in, **options[security]) as box:
        yield box


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_statements_are_sent_encrypted_to_a_server_that_is_trusted_and_signed_in_to(monkeypatch, certificate, security):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with encrypted(monkeypatch, security, certificate) as box:
        with pytest.raises(OctoError, match=r"cannot be used: .*Authentication credentials invalid") as refused:
            send([statement_called("a")], Settings(smtp_user="octo", smtp_password="wrong"))
        assert box.messages == []

        [sent] = send([statement_called("a")], Settings(smtp_user="octo", smtp_password="secret"))

    assert refused.value.code == "mail-server-failed"
    assert sent.problem == ""
    ((recipients, _),) = box.messages
    assert recipients == ["a@example.com"]


@pytest.mark.parametrize("security", ["starttls", "tls"])
def test_a_server_whose_certificate_nobody_vouches_for_gets_nothing(monkeypatch, certificate, security):
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    with (
        encrypted(monkeypatch, security, certificate) as box,
        pytest.raises(
            OctoError, match=r"^The mail server 127\.0\.0\.1:.* cannot be used: .*certificate verify failed"
        ) as error,
    ):
        send([statement_called("a")], Settings(smtp_user="octo", smtp_password="secret"))

    assert "\n" not in str(error.value)
    assert box.messages == []
