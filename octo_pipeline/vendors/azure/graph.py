"""The partner billing API of Microsoft Graph, and the list of invoices of Partner Center.

Here belongs what is asked of the two services and what their answers mean. Tokens and repeated requests are the
caller's; what becomes of an export is `azure_csp`'s.

An export runs on Microsoft's side: it is asked for, its operation is polled until it has ended, and its manifest
tells where the blobs are. A manifest that is read again has a fresh SAS.
"""

import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.wording import cut, quoted
from octo_pipeline.vendors.azure.azure_http import LONGEST_WAIT, Response, parsed, reason, refusal, retry_after

GRAPH_URL = "https://graph.microsoft.com"
PARTNER_CENTER_URL = "https://api.partnercenter.microsoft.com"
PATIENCE = 3600.0

_BILLING = "/v1.0/reports/partners/billing"
_POLL_EVERY = 10.0
_PAGE = 500
# A partner has some invoices a month; a list that does not end after these never does.
_MOST_PAGES = 100
_INVOICE_ID = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_QUOTED = 200


class Call(Protocol):
    """Sends a request with the token for the service that the address belongs to."""

    def __call__(self, method: str, url: str, *, json: Mapping[str, str] | None = None) -> Response:
        """The answer, whatever its status.

        Raises:
            OctoError: there is no answer or no token.
        """
        ...


@dataclass(frozen=True)
class Manifest:
    """Where the blobs of an export are.

    Attributes:
        address: where it can be read again, None if it cannot.
        blobs: their names below `directory`.
    """

    address: str | None
    etag: str
    directory: str
    sas: str
    blobs: tuple[str, ...]

    def blob_url(self, name: str) -> str:
        """The address of a blob with the SAS."""
        return f"{self.directory.rstrip('/')}/{quote(name)}?{self.sas.lstrip('?')}"


def parse_manifest(document: Any, source: str, address: str | None = None) -> Manifest:
    """A manifest from its JSON.

    Raises:
        OctoError: it lacks what is needed, or announces another number of blobs than it lists.
    """
    try:
        blobs = tuple(_text(blob["name"]) for blob in document["blobs"] or ())
        announced = int(document.get("blobCount", len(blobs)))
        manifest = Manifest(
            address,
            _text(document["eTag"]),
            _text(document.get("rootDirectory") or ""),
            _text(document.get("sasToken") or ""),
            blobs,
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise OctoError(
            f"{source} has a manifest that cannot be understood ({type(error).__name__}: {cut(str(error), _QUOTED)}). Nothing "
            "was landed; export it again.",
            code="manifest-malformed",
        ) from error
    if announced != len(blobs):
        raise OctoError(
            f"{source} has a manifest that announces {announced} blobs and lists {len(blobs)}, so the export is not "
            "whole. Nothing was landed; export it again.",
            code="export-incomplete",
        )
    return manifest


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where a text should be")
    value.encode()  # half of a surrogate pair is no text
    return value


class PartnerBilling:
    """The exports and invoices of one partner tenant.

    Args:
        call: sends requests with a token.
        tenant_id: the partner tenant, for sentences.
        graph_url: Microsoft Graph, or a fake of it.
        partner_center_url: Partner Center, or a fake of it.
        pause: waits some seconds.
        patience: how many seconds of waiting an operation may take.
    """

    def __init__(
        self,
        call: Call,
        tenant_id: str,
        *,
        graph_url: str = GRAPH_URL,
        partner_center_url: str = PARTNER_CENTER_URL,
        pause: Callable[[float], None] = time.sleep,
        patience: float = PATIENCE,
    ) -> None:
        self._call, self.tenant_id, self._pause, self._patience = call, tenant_id, pause, patience
        self._billing = graph_url.rstrip("/") + _BILLING
        self._invoices = partner_center_url.rstrip("/") + "/v1/invoices"

    def invoices(self, month: str) -> list[str]:
        """The ids of the new-commerce invoices of a billing month, sorted.

        Raises:
            OctoError: Partner Center refuses or cannot be understood.
        """
        doing = "list the invoices"
        found: set[str] = set()
        offset = 0
        for _ in range(_MOST_PAGES):
            answer = self._call("GET", f"{self._invoices}?size={_PAGE}&offset={offset}")
            self._require(answer, 200, doing)
            items = self._items(self._json(answer, doing), doing)
            found |= {item["id"] for item in items if _is_of(item, month)}
            offset += len(items)
            if len(items) < _PAGE:
                return sorted(found)
        raise OctoError(
            self._sentence(doing, f"the list does not end after {offset} invoices"), code="answer-malformed"
        )

    def unbilled_usage(self, *, currency: str, period: str) -> Manifest:
        """Export the daily usage that no invoice has yet; the period is current or last.

        Raises:
            OctoError: the export is refused, fails or does not end.
        """
        asked = {"currencyCode": currency, "billingPeriod": period, "attributeSet": "full"}
        return self._export("/usage/unbilled/export", asked, f"unbilled usage of the {period} period in {currency}")

    def billed_usage(self, invoice: str) -> Manifest:
        """Export the daily usage of an invoice.

        Raises:
            OctoError: the export is refused, fails or does not end.
        """
        asked = {"invoiceId": invoice, "attributeSet": "full"}
        return self._export("/usage/billed/export", asked, f"billed usage of invoice {invoice}")

    def reconciliation(self, invoice: str) -> Manifest:
        """Export the line items of an invoice.

        Raises:
            OctoError: the export is refused, fails or does not end.
        """
        asked = {"invoiceId": invoice, "attributeSet": "full"}
        return self._export("/reconciliation/billed/export", asked, f"reconciliation of invoice {invoice}")

    def renewed(self, manifest: Manifest) -> Manifest:
        """The same manifest with a fresh SAS.

        Raises:
            OctoError: it cannot be read again, or is of another version by now.
        """
        if manifest.address is None:
            raise OctoError(self._sentence("ask for a fresh SAS", "the manifest has no id"), code="answer-malformed")
        fresh = self._manifest(manifest.address, "ask for a fresh SAS")
        if fresh.etag != manifest.etag:
            raise OctoError(
                self._sentence("ask for a fresh SAS", "the export changed while it was read"),
                code="file-changed-while-read",
            )
        return fresh

    def check(self, *, currency: str) -> None:
        """Ask for something small that needs all the permissions the exports need.

        Raises:
            OctoError: it is refused.
        """
        self.invoices("")
        asked = {"currencyCode": currency, "billingPeriod": "current", "attributeSet": "basic"}
        answer = self._call("POST", f"{self._billing}/usage/unbilled/export", json=asked)
        self._require(answer, 202, "export unbilled usage")

    def _export(self, path: str, asked: Mapping[str, str], what: str) -> Manifest:
        doing = f"export the {what}"
        answer = self._call("POST", self._billing + path, json=asked)
        self._require(answer, 202, doing)
        operation = answer.headers.get("Location")
        if not operation:
            raise OctoError(self._sentence(doing, "the answer names no operation"), code="answer-malformed")
        ended = self._ended(operation, answer, doing)
        found = ended.get("resourceLocation")
        if isinstance(found, str):
            return self._manifest(found, doing)
        known = found.get("id") if isinstance(found, dict) else None
        address = f"{self._billing}/manifests/{known}" if known else None
        return parse_manifest(found, f"Azure partner tenant {self.tenant_id}, {what},", address)

    def _ended(self, operation: str, answer: Response, doing: str) -> dict[str, Any]:
        """The operation once it has succeeded."""
        waited = 0.0
        while True:
            asked = retry_after(answer.headers)
            wait = min(_POLL_EVERY if asked is None else asked, LONGEST_WAIT)
            if waited + wait > self._patience:
                raise OctoError(
                    self._sentence(doing, f"the operation did not end within {self._patience:.0f} s"),
                    code="export-not-finished",
                )
            self._pause(wait)
            # A second at least, so that a service that asks for a retry at once is not asked for ever.
            waited += max(wait, 1.0)
            answer = self._call("GET", operation)
            if answer.status_code == 202:
                continue
            self._require(answer, 200, doing)
            document = self._json(answer, doing)
            match str(document.get("status", "")).lower():
                case "succeeded":
                    return document
                case "failed":
                    said = reason(document.get("error")) or "no reason given"
                    raise OctoError(
                        self._sentence(doing, f"the operation ended in failed ({said})"), code="export-failed"
                    )
                case "notstarted" | "running":
                    continue
                case status:
                    raise OctoError(
                        self._sentence(doing, f"the operation has the unknown status {quoted(status, _QUOTED)}"),
                        code="answer-malformed",
                    )

    def _manifest(self, address: str, doing: str) -> Manifest:
        answer = self._call("GET", address)
        self._require(answer, 200, doing)
        return parse_manifest(self._json(answer, doing), f"Azure partner tenant {self.tenant_id}", address)

    def _json(self, answer: Response, doing: str) -> dict[str, Any]:
        try:
            document = parsed(answer)
        except ValueError as error:
            raise OctoError(self._sentence(doing, "the answer is no JSON"), code="answer-malformed") from error
        if not isinstance(document, dict):
            raise OctoError(self._sentence(doing, "the answer is no JSON object"), code="answer-malformed")
        return document

    def _items(self, document: Mapping[str, Any], doing: str) -> list[dict[str, Any]]:
        """The invoices of a page. One that cannot be read is no reason to believe that there are none."""
        items = document.get("items")
        if items is None and document.get("totalCount") == 0:
            return []
        if not isinstance(items, list):
            raise OctoError(self._sentence(doing, "the answer has no list of them"), code="answer-malformed")
        for item in items:
            known = item.get("id") if isinstance(item, dict) else None
            if not isinstance(known, str) or not _INVOICE_ID.fullmatch(known):
                raise OctoError(
                    self._sentence(doing, f"one has no id that can be one ({quoted(str(known), _QUOTED)})"),
                    code="answer-malformed",
                )
        return items

    def _require(self, answer: Response, status: int, doing: str) -> None:
        if answer.status_code == status:
            return
        why = {
            401: "the sign-in was not accepted; sign in again",
            403: "the application lacks PartnerBilling.Read.All, an admin's consent to it, or a billing role; grant it",
            404: "there is no such thing; check the tenant and whether it is a direct partner's",
        }.get(answer.status_code, "the request was refused")
        raise OctoError(self._sentence(doing, f"{why} ({refusal(answer)})"), code="azure-refused")

    def _sentence(self, doing: str, why: str) -> str:
        return (
            f"Azure partner tenant {self.tenant_id}: could not {doing}: {why}. Nothing was landed; what was landed "
            "before stays."
        )


def _is_of(invoice: Mapping[str, Any], month: str) -> bool:
    """Whether an invoice is a new-commerce one (their numbers begin with G) whose billing period begins in the month."""
    return invoice["id"].startswith("G") and str(invoice.get("billingPeriodStartDate", ""))[:7] == month
