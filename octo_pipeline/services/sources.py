"""The sources of an installation: folders from the settings, documents of the configuration, registered accounts.

How a source is fetched belongs in the vendor's folder.

A document is ``<config>/sources/<any name>.json``, such as
``{"vendor": "aws", "account": "999988887777", "bucket": "company-cur", "prefix": "reports", "role_arn": …}``. What all
documents have in common is in `vendors.documents`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from pydantic import ValidationError

from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError, Remedy
from octo_pipeline.registry.records import Account
from octo_pipeline.vendors.catalog import VENDORS
from octo_pipeline.vendors.documents import FOCUS, SourceDocument, source_document, source_documents
from octo_pipeline.vendors.landing import Landed
from octo_pipeline.vendors.source import Available, Source
from octo_pipeline.workspace import Workspace


def sources(workspace: Workspace, vendor: str) -> list[Source]:
    """The vendor's sources, in the order of their names.

    Raises:
        OctoError: a document of the vendor is not valid (the message names file and field), a document does not name its
            vendor, or the registry cannot be read. No source of the vendor is used then, because the costs of the
            missing one would be missing from the bill.
    """
    folder = workspace.settings.exports(vendor)
    sources = [folder_source(vendor, folder)] if folder else []
    documents = source_documents(workspace.settings.config)
    # A fault in another vendor's document, such as a variable that is not set, must not stop this vendor.
    sources += [
        _source(workspace, document) for document in documents if document.is_used and document.reader == vendor
    ]
    sources += registered_sources(workspace, vendor)
    _refuse_repeated_names(sources)
    by_name = {source.name: source for source in sources}
    return [by_name[name] for name in sorted(by_name)]


# So long the vendor may take until a registered account's exports are there; until then, they are missed by nobody.
NEW_ACCOUNT = timedelta(days=1)


class NotConfirmedError(OctoError):
    """An account is registered, but its exports cannot be fetched before it is confirmed."""


class NewAccountError(NotConfirmedError):
    """The same of an account that was registered within a day, which is to be expected."""


def registered_sources(workspace: Workspace, vendor: str) -> list[Source]:
    """The sources of the vendor's registered accounts that have one.

    An account that is not Completed, or no longer, is included as a source that refuses every request. Otherwise its
    costs would be missing from the bill without a message.

    Raises:
        OctoError: the registry cannot be read, or has settings that this version does not understand.
    """
    return [
        _registered(workspace, account)
        for account in workspace.registry.accounts.all()
        if account.vendor == vendor and account.kind != "linked" and "source" in account.settings
    ]


def _registered(workspace: Workspace, account: Account) -> Source:
    if not account.is_completed:
        return _Unconfirmed(account)
    vendor = VENDORS[account.vendor]
    if vendor.registered_source:
        return vendor.registered_source(workspace, account)
    origin = f"The registration of the {account.vendor} account {account.account_id}"
    return _source(workspace, source_document(account.settings["source"], origin))


@dataclass(frozen=True)
class _Unconfirmed:
    """A registered account that is not confirmed yet."""

    _registered: Account

    @property
    def vendor(self) -> str:
        return self._registered.vendor

    @property
    def account(self) -> str:
        return self._registered.account_id

    @property
    def name(self) -> str:
        return f"{self.vendor} {self.account}, not confirmed"

    def available(self, month: str) -> list[Available]:
        raise self._refusal()

    def land(self, root: Location, month: str, fetched_at: datetime) -> list[Landed]:
        raise self._refusal()

    def _refusal(self) -> NotConfirmedError:
        reason = f" ({self._registered.problem})" if self._registered.problem else ""
        is_new = datetime.now(UTC) - self._registered.registered_at < NEW_ACCOUNT
        return (NewAccountError if is_new else NotConfirmedError)(
            f"{self._registered.title} is registered, but not Completed{reason}, so nothing was fetched for it.",
            code="account-not-confirmed",
            place=self.account,
            remedy=(
                Remedy("accounts confirm", self.account, to="verify it"),
                Remedy("accounts delete", self.account, to="remove it"),
            ),
        )


def folder_source(vendor: str, path: Path) -> Source:
    """A folder with exports in the vendor's layout, or one data file."""
    return VENDORS[vendor].folder_source(path)


def _source(workspace: Workspace, document: SourceDocument) -> Source:
    try:
        return VENDORS[document.reader].document_source(document.fields, workspace.settings.allowed_host_names)
    except ValidationError as error:
        raise OctoError(
            f"{document.origin}: {_flaw(error)}.", code="source-document-wrong", place=document.origin
        ) from None


def _refuse_repeated_names(sources: Sequence[Source]) -> None:
    """Refuse two sources of FOCUS files with one name, because their deliveries would replace each other."""
    names: dict[str | None, str] = {}
    for source in sources:
        if source.vendor == FOCUS and names.setdefault(source.account, source.name) != source.name:
            raise OctoError(
                f"{names[source.account]} and {source.name} have the same name. Give each document its own name.",
                code="source-name-repeated",
                place=source.account,
            )


def _flaw(error: ValidationError) -> str:
    # The value is left out, because it may be a secret in the wrong field.
    first = error.errors(include_input=False)[0]
    return f"{'.'.join(str(part) for part in first['loc']) or 'the document'}: {first['msg']}"
