"""The partner billing API of Microsoft Graph, and the list of invoices of Partner Center.

This module holds the requests to the two services and the meaning of their responses. Tokens and retries belong to the
caller, the use of an export in `csp`.

An export runs at Microsoft: a request starts it, its operation is polled until it has ended, and its manifest lists the
blobs. Reading a manifest again gives a new SAS.
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
# A partner has a few invoices a month. A longer list is taken for one that does not end.
_MOST_PAGES = 100
_INVOICE_ID = re.compile(r"[A-Za-z0-9_.-]{1,100}")
_QUOTED = 200


class Call(Protocol):
    """Sends a request with the token for the service that the address belongs to."""

    def __call__(self, method: str, url: str, *, json: Mapping[str, str] | None = None) -> Response:
        """The response, whatever its status.

        Raises:
            OctoError: there is no response or no token.
        """
        ...


@dataclass(frozen=True)
class Manifest:
    """The blobs of an export and where they are.

    Attributes:
        address: where the manifest can be read again, None if it cannot.
        etag: the version.
        directory: the address of the folder of the blobs.
        sas: the SAS that allows reading them.
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
        OctoError: a required value is missing, or it announces another number of blobs than it lists.
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
            f"{source} has a manifest that cannot be read ({type(error).__name__}: {cut(str(error), _QUOTED)}). Nothing was "
            "landed; export it again.",
            code="manifest-malformed",
        ) from error
    if announced != len(blobs):
        raise OctoError(
            f"{source} has a manifest that announces {announced} blobs but lists {len(blobs)}, so the export is incomplete. "
            "Nothing was landed; export it again.",
            code="export-incomplete",
        )
    return manifest


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where a text should be")
    value.encode()  # raises for half of a surrogate pair
    return value


class PartnerBilling:
    """The exports and invoices of one partner tenant.

    Args:
        call: sends requests with a token.
        tenant_id: the partner tenant, for messages.
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
            OctoError: Partner Center refuses, or its response cannot be read.
        """
        action = "list the invoices"
        invoices: set[str] = set()
        offset = 0
        for _ in range(_MOST_PAGES):
            response = self._call("GET", f"{self._invoices}?size={_PAGE}&offset={offset}")
            self._require(response, 200, action)
            items = self._items(self._json(response, action), action)
            invoices |= {item["id"] for item in items if _is_of(item, month)}
            offset += len(items)
            if len(items) < _PAGE:
                return sorted(invoices)
        raise OctoError(
            self._message(action, f"the list does not end after {offset} invoices"), code="answer-malformed"
        )

    def unbilled_usage(self, *, currency: str, period: str) -> Manifest:
        """Export the daily usage without an invoice; the period is ``current`` or ``last``.

        Raises:
            OctoError: the export is refused, fails or does not end.
        """
        body = {"currencyCode": currency, "billingPeriod": period, "attributeSet": "full"}
        return self._export("/usage/unbilled/export", body, f"unbilled usage of the {period} period in {currency}")

    def billed_usage(self, invoice: str) -> Manifest:
        """Export the daily usage of an invoice.

        Raises:
            OctoError: the export is refused, fails or does not end.
        """
        body = {"invoiceId": invoice, "attributeSet": "full"}
        return self._export("/usage/billed/export", body, f"billed usage of invoice {invoice}")

    def reconciliation(self, invoice: str) -> Manifest:
        """Export the line items of an invoice.

        Raises:
            OctoError: the export is refused, fails or does not end.
        """
        body = {"invoiceId": invoice, "attributeSet": "full"}
        return self._export("/reconciliation/billed/export", body, f"reconciliation of invoice {invoice}")

    def renewed(self, manifest: Manifest) -> Manifest:
        """The same manifest with a new SAS.

        Raises:
            OctoError: it cannot be read again, or has another version now.
        """
        if manifest.address is None:
            raise OctoError(self._message("ask for a fresh SAS", "the manifest has no id"), code="answer-malformed")
        fresh = self._manifest(manifest.address, "ask for a fresh SAS")
        if fresh.etag != manifest.etag:
            raise OctoError(
                self._message("ask for a fresh SAS", "the export changed while it was read"),
                code="file-changed-while-read",
            )
        return fresh

    def check(self, *, currency: str) -> None:
        """Send small requests that need all permissions of the exports.

        Raises:
            OctoError: it is refused.
        """
        self.invoices("")
        body = {"currencyCode": currency, "billingPeriod": "current", "attributeSet": "basic"}
        response = self._call("POST", f"{self._billing}/usage/unbilled/export", json=body)
        self._require(response, 202, "export unbilled usage")

    def _export(self, path: str, body: Mapping[str, str], title: str) -> Manifest:
        action = f"export the {title}"
        response = self._call("POST", self._billing + path, json=body)
        self._require(response, 202, action)
        operation = response.headers.get("Location")
        if not operation:
            raise OctoError(self._message(action, "the response names no operation"), code="answer-malformed")
        ended = self._ended(operation, response, action)
        resource = ended.get("resourceLocation")
        if isinstance(resource, str):
            return self._manifest(resource, action)
        manifest_id = resource.get("id") if isinstance(resource, dict) else None
        address = f"{self._billing}/manifests/{manifest_id}" if manifest_id else None
        return parse_manifest(resource, f"Azure partner tenant {self.tenant_id}, {title},", address)

    def _ended(self, operation: str, response: Response, action: str) -> dict[str, Any]:
        """The operation once it has succeeded."""
        waited = 0.0
        while True:
            retry_seconds = retry_after(response.headers)
            wait = min(_POLL_EVERY if retry_seconds is None else retry_seconds, LONGEST_WAIT)
            if waited + wait > self._patience:
                raise OctoError(
                    self._message(action, f"the operation did not end within {self._patience:.0f} s"),
                    code="export-not-finished",
                )
            self._pause(wait)
            # Count at least a second, so that a service that allows immediate retries is not polled for ever.
            waited += max(wait, 1.0)
            response = self._call("GET", operation)
            if response.status_code == 202:
                continue
            self._require(response, 200, action)
            document = self._json(response, action)
            match str(document.get("status", "")).lower():
                case "succeeded":
                    return document
                case "failed":
                    cause = reason(document.get("error")) or "no reason given"
                    raise OctoError(self._message(action, f"the operation failed ({cause})"), code="export-failed")
                case "notstarted" | "running":
                    continue
                case status:
                    raise OctoError(
                        self._message(action, f"the operation has the unknown status {quoted(status, _QUOTED)}"),
                        code="answer-malformed",
                    )

    def _manifest(self, address: str, action: str) -> Manifest:
        response = self._call("GET", address)
        self._require(response, 200, action)
        return parse_manifest(self._json(response, action), f"Azure partner tenant {self.tenant_id}", address)

    def _json(self, response: Response, action: str) -> dict[str, Any]:
        try:
            document = parsed(response)
        except ValueError as error:
            raise OctoError(self._message(action, "the response is not JSON"), code="answer-malformed") from error
        if not isinstance(document, dict):
            raise OctoError(self._message(action, "the response is not a JSON object"), code="answer-malformed")
        return document

    def _items(self, document: Mapping[str, Any], action: str) -> list[dict[str, Any]]:
        """The invoices of a page; one that cannot be read is an error, so that no invoice is ignored."""
        items = document.get("items")
        if items is None and document.get("totalCount") == 0:
            return []
        if not isinstance(items, list):
            raise OctoError(self._message(action, "the response has no list of them"), code="answer-malformed")
        for item in items:
            invoice_id = item.get("id") if isinstance(item, dict) else None
            if not isinstance(invoice_id, str) or not _INVOICE_ID.fullmatch(invoice_id):
                raise OctoError(
                    self._message(action, f"an invoice has an invalid id ({quoted(str(invoice_id), _QUOTED)})"),
                    code="answer-malformed",
                )
        return items

    def _require(self, response: Response, status: int, action: str) -> None:
        if response.status_code == status:
            return
        cause = {
            401: "the sign-in was not accepted; sign in again",
            403: "the application lacks PartnerBilling.Read.All, an admin's consent to it, or a billing role; grant it",
            404: "it does not exist; check the tenant and whether it is a direct partner's",
        }.get(response.status_code, "the request was refused")
        raise OctoError(self._message(action, f"{cause} ({refusal(response)})"), code="azure-refused")

    def _message(self, action: str, cause: str) -> str:
        return (
            f"Azure partner tenant {self.tenant_id}: could not {action}: {cause}. Nothing was landed; earlier deliveries "
            "stay."
        )


def _is_of(invoice: Mapping[str, Any], month: str) -> bool:
    """Whether an invoice is of new commerce (its number begins with G) and its billing period begins in the month."""
    return invoice["id"].startswith("G") and str(invoice.get("billingPeriodStartDate", ""))[:7] == month
