"""Sends statements by SMTP: to each cost centre's email its PDF.

What a statement says belongs in `statements`, how it looks in `statement_pages`.
"""

import smtplib
import ssl
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from email.headerregistry import Address
from email.message import EmailMessage
from email.utils import formatdate, make_msgid

from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.model.wording import counted, cut, plain
from octo_pipeline.outputs.statement_pages import file_stem, pdf_page
from octo_pipeline.outputs.statements import Statement
from octo_pipeline.settings import Settings

_TIMEOUT = 60
_SUBJECT_LENGTH = 120
# Servers that are this machine may be spoken to without encryption.
_LOCAL = ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class Sent:
    """What happened to a statement: it was sent, or why not."""

    statement: Statement
    problem: str


def addressed(statements: Iterable[Statement]) -> tuple[list[Statement], list[Statement]]:
    """The statements that somebody gets, and those that nobody does, since no line has an email."""
    listed = list(statements)
    return [s for s in listed if s.email], [s for s in listed if not s.email]


def send(statements: Sequence[Statement], settings: Settings) -> list[Sent]:
    """Send each statement with its PDF. One that is refused does not stop the others.

    Args:
        statements: those with an email.
        settings: the mail server.

    Returns:
        What happened to each, in order.

    Raises:
        OctoError: no mail server is set, it cannot be reached, or it refuses the sign-in.
    """
    with _connected(settings) as server:
        return [Sent(statement, _problem(server, statement, settings)) for statement in statements]


def require_sent(sent: Iterable[Sent]) -> None:
    """Raise an error if one was not sent.

    Raises:
        OctoError: it says which ones were not, and why.
    """
    failed = [f"{result.statement.title}: {result.problem}" for result in sent if result.problem]
    if failed:
        raise OctoError(
            f"{counted(len(failed), 'statement')} not sent. {'; '.join(failed)}.", code="statements-not-sent"
        )


def require_server(settings: Settings) -> None:
    """Refuse to begin where nothing can be sent.

    Raises:
        OctoError: no mail server or no sender is set, or what is sent to it would not be encrypted.
    """
    if not settings.smtp_host or not settings.smtp_from:
        raise OctoError(
            "Statements cannot be sent: the mail server and the sender's address must be set.",
            code="mail-server-not-set",
            remedy=[
                Remedy("set", setting="smtp_host", to="the name of your mail server"),
                Remedy("set", setting="smtp_from", to="the address that statements are sent from"),
            ],
        )
    if settings.smtp_security == "none" and settings.smtp_host not in _LOCAL:
        raise OctoError(
            f"Statements are not sent to {settings.smtp_host} without encryption; only a mail server of this machine may do without.",
            code="mail-not-encrypted",
            place="smtp_security",
            remedy=Remedy("set", setting="smtp_security", to="starttls or tls"),
        )


def message_of(statement: Statement, sender: str) -> EmailMessage:
    """The message: what is to pay as text, and the PDF."""
    provisional = " (provisional)" if statement.is_provisional else ""
    message = EmailMessage()
    message["Subject"] = cut(
        plain(f"Cloud costs of {statement.month}: {statement.title}{provisional}"), _SUBJECT_LENGTH
    )
    message["From"] = Address(addr_spec=sender)
    message["To"] = Address(addr_spec=statement.email)
    message["Date"] = formatdate()
    message["Message-ID"] = make_msgid(domain=sender.rpartition("@")[2])
    totals = "\n".join(f"    {section.total} {section.currency}" for section in statement.sections)
    note = "\n\nThe month is not closed yet. These amounts can still change." if statement.is_provisional else ""
    message.set_content(
        f"Cloud costs of {statement.month} for {statement.title} ({statement.kind.lower()} {statement.id}):\n\n{totals}{note}\n\n"
        "The statement is attached.\n"
    )
    message.add_attachment(
        pdf_page(statement), maintype="application", subtype="pdf", filename=f"{file_stem(statement)}.pdf"
    )
    return message


def _problem(server: smtplib.SMTP, statement: Statement, settings: Settings) -> str:
    try:
        server.send_message(message_of(statement, settings.smtp_from or ""))
    except smtplib.SMTPRecipientsRefused as error:
        code, text = next(iter(error.recipients.values()))
        return f"the server refuses {statement.email}: {code} {_text(text)}"
    except smtplib.SMTPResponseException as error:
        return f"the server answers {error.smtp_code} {_text(error.smtp_error)}"
    except (smtplib.SMTPException, OSError, ValueError) as error:
        return _text(str(error))
    return ""


@contextmanager
def _connected(settings: Settings) -> Iterator[smtplib.SMTP]:
    require_server(settings)
    host, port = settings.smtp_host or "", settings.smtp_port
    try:
        with _open(settings, host, port) as server:
            if settings.smtp_user and settings.smtp_password:
                server.login(settings.smtp_user, settings.smtp_password.get_secret_value())
            yield server
    except (smtplib.SMTPException, OSError) as error:
        raise OctoError(
            f"The mail server {host}:{port} cannot be used: {_text(str(error))}.", code="mail-server-failed", place=host
        ) from error


def _open(settings: Settings, host: str, port: int) -> smtplib.SMTP:
    context = ssl.create_default_context()
    if settings.smtp_security == "tls":
        return smtplib.SMTP_SSL(host, port, timeout=_TIMEOUT, context=context)
    server = smtplib.SMTP(host, port, timeout=_TIMEOUT)
    try:
        if settings.smtp_security == "starttls":
            server.starttls(context=context)
    except BaseException:
        server.close()
        raise
    return server


def _text(answer: str | bytes) -> str:
    text = answer.decode(errors="replace") if isinstance(answer, bytes) else answer
    return cut(" ".join(text.split()), 200)
