"""Answers of Graph, Partner Center and Azure's storage that are broken or hostile: a right delivery or a sentence."""

import base64
import hashlib
import http.server
import io
import json
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_UP, Decimal, localcontext
from typing import Any

import duckdb
import pytest
import requests
import urllib3
from hypothesis import example, given
from hypothesis import strategies as st

from octo_pipeline.model.errors import OctoError
from octo_pipeline.tables.landed_charges import landed_relations
from octo_pipeline.vendors.azure.azure_http import Http, refusal, retry_after
from octo_pipeline.vendors.azure.blobs import ContainerListing, open_blob
from octo_pipeline.vendors.azure.client import _caller
from octo_pipeline.vendors.azure.csp import AzureCspSource
from octo_pipeline.vendors.azure.graph import GRAPH_URL, PARTNER_CENTER_URL, PartnerBilling, parse_manifest
from octo_pipeline.vendors.landing import deliveries, newest_deliveries
from tests.emulators.azure import TENANT, blob
from tests.support.partner_rows import PARTNER_PURCHASE, PARTNER_USAGE
from tests.torture.chance import fuzz
from tests.torture.hostile import TEXTS, bounded, changed, texts

NOW = datetime(2024, 5, 20, tzinfo=UTC)
MONTH = "2024-05"
TOKEN = "eyJ0eXAiOiJKV1QifQ.eyJhdWQiOiJncmFwaCJ9.c2lnbmF0dXJl"
SAS = "se=2024-05-21&sig=bm8tb25lLW1heS1zZWUtdGhpcw"
STORAGE = "https://partner.blob.core.windows.net/export"
GRAPH = f"{GRAPH_URL}/v1.0/reports/partners/billing"
OPERATION = f"{GRAPH}/operations/1"
# More than any answer may make it ask: whoever comes here is asking without end.
MOST_REQUESTS = 3_000


@dataclass(frozen=True)
class Answer:
    """What a service answers."""

    status: int
    body: bytes
    headers: Mapping[str, str] = field(default_factory=dict)

    def to(self, stream: bool) -> requests.Response:
        """As requests hands it out."""
        answer = requests.Response()
        answer.status_code = self.status
        answer.headers.update(self.headers)
        answer.raw = urllib3.HTTPResponse(io.BytesIO(self.body), self.headers, self.status, preload_content=False)
        if not stream:
            answer.content  # noqa: B018
        return answer


def json_answer(document: object, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(document).encode(), headers)


class Session:
    """Answers by the first rule whose address is the beginning of what is asked."""

    def __init__(self, answers: Mapping[str, Answer]) -> None:
        self._answers = answers
        self.asked = 0

    def request(self, method: str, url: str, *, stream: bool, headers: Any = None, **_: object) -> requests.Response:
        self.asked += 1
        assert self.asked < MOST_REQUESTS, "it asks without end"
        prepared = requests.Request(method, url, headers=headers).prepare()
        if "Authorization" in prepared.headers:
            assert url.startswith((GRAPH_URL, PARTNER_CENTER_URL)), "a token for a stranger"
        found = (answer for place, answer in self._answers.items() if url.startswith(place))
        return next(found, Answer(404, b"")).to(stream)


class Pauses:
    """Waits without waiting, and sees how long it would have been."""

    seconds = 0.0

    def __call__(self, seconds: float) -> None:
        assert seconds >= 0
        self.seconds += seconds


class Token:
    def token(self, service: str) -> str:
        return TOKEN


def manifest(name: str, blobs: Mapping[str, bytes]) -> dict[str, Any]:
    return {
        "id": "1", "schemaVersion": "2", "dataFormat": "compressedJSONLines", "eTag": "etag", "partnerTenantId": TENANT,
        "rootDirectory": f"{STORAGE}/{name}", "sasToken": SAS, "partitionType": "default", "blobCount": len(blobs),
        "blobs": [{"name": one, "partitionValue": "default"} for one in blobs],
    }  # fmt: skip


def right_answers(invoices: list[dict[str, str]], lines: list[dict[str, Any]]) -> dict[str, Answer]:
    """All that is asked for a month, answered as it should be."""
    content = blob(*lines)
    document = manifest("one", {"part-0.json.gz": content})
    digest = base64.b64encode(hashlib.md5(content).digest()).decode()
    facts = {"Content-Length": str(len(content)), "Content-MD5": digest, "ETag": f'"{digest}"'}
    return {
        f"{PARTNER_CENTER_URL}/v1/invoices": json_answer({"items": invoices}),
        OPERATION: json_answer({"status": "succeeded", "resourceLocation": document}),
        f"{GRAPH}/manifests/": json_answer(document),
        GRAPH: json_answer({}, 202, Location=OPERATION),
        STORAGE: Answer(200, content, facts),
    }


STATUSES = st.sampled_from(
    [200, 201, 202, 204, 206, 301, 302, 304, 400, 401, 403, 404, 408, 409, 412, 416, 418, 429, 500, 503]
)
HEADERS = st.sampled_from(["Location", "Retry-After", "Content-Length", "Content-MD5", "ETag", "Content-Encoding"])
HEADER_VALUES = (
    st.sampled_from(
        ["", "0", "-1", "1e400", "nan", "9" * 5000, "Wed, 99 Foo 99999999999 00:00:00 +9999999999999999", "gzip", "\xff",
         OPERATION, f"{GRAPH_URL}.evil.example/x", "https://evil.example/?x", "/relative", "http://[", "file:///etc/passwd",
         "Wed, 21 Oct 2015 07:28:00 GMT", "AAAA", "=", "é"]
    )
    | texts
)  # fmt: skip
JUNK = st.sampled_from(
    [b"", b"{", b"[" * 100_000, b'{"a":' * 100_000, b"\xff\xfe{", b"\0", b"null", b"[]", b"{}", b'"x"', b"1e999", b"<html>",
     b'{"items": ' + b"[" * 5_000, b'{"status":"running"}', b'{"status":"failed","error":"no"}', b'{"value":' + b"9" * 5000 + b"}"]
) | st.binary(max_size=60)  # fmt: skip
ERRORS = changed(
    {"status": "failed", "error": {"code": "Forbidden", "message": f"Bearer {TOKEN} and ?{SAS} were not accepted"}}
)


@st.composite
def broken(draw: st.DrawFn, answer: Answer) -> Answer:
    """The answer with its status, a header or its body changed."""
    status, body, headers = answer.status, answer.body, dict(answer.headers)
    match draw(st.sampled_from(["status", "header", "document", "document", "document", "error", "junk", "cut"])):
        case "status":
            status = draw(STATUSES)
        case "header":
            headers[draw(HEADERS)] = draw(HEADER_VALUES)
        case "document" if "Content-MD5" not in headers:
            body = json.dumps(draw(changed(json.loads(body)))).encode()
        case "error":
            status, body = draw(STATUSES), json.dumps(draw(ERRORS)).encode()
        case "cut":
            body = body[: draw(st.integers(0, len(body)))]
        case _:
            body = draw(JUNK)
    if draw(st.booleans()):
        headers = {name: value for name, value in headers.items() if name not in ("Content-Length", "Content-MD5")}
    return Answer(status, body, headers)


@st.composite
def worlds(draw: st.DrawFn) -> tuple[dict[str, Answer], bytes]:
    """What is answered, one or two answers of it broken, and what the blob really holds."""
    invoices = draw(st.sampled_from([[], [{"id": "G1", "billingPeriodStartDate": "2024-05-01T00:00:00Z"}]]))
    answers = right_answers(invoices, [{**PARTNER_USAGE, **PARTNER_PURCHASE}])
    content = answers[STORAGE].body
    for place in draw(st.lists(st.sampled_from(sorted(answers)), min_size=1, max_size=2, unique=True)):
        answers[place] = draw(broken(answers[place]))
    return answers, content


def source(session: Session, pauses: Pauses) -> AzureCspSource:
    services = {GRAPH_URL: GRAPH_URL, PARTNER_CENTER_URL: PARTNER_CENTER_URL}
    client = Http(session, pause=pauses)
    billing = PartnerBilling(_caller(client, Token(), services), TENANT, pause=pauses)
    return AzureCspSource(billing, client, ("GBP",), today=lambda: date(2024, 5, 20))


@fuzz(50, 1_000)
@given(worlds())
def test_any_answer_is_a_right_delivery_or_a_sentence(tmp_path_factory, world):
    answers, content = world
    lake = tmp_path_factory.mktemp("graph") / "lake"
    session, pauses = Session(answers), Pauses()
    with bounded():
        try:
            source(session, pauses).land(lake, MONTH, NOW)
        except OctoError as error:
            assert TOKEN not in str(error)
            assert SAS.split("sig=")[1] not in str(error)
            assert [path for path in lake.rglob("*") if path.is_file() and ".lock" not in path.name] == []
            raise
    # The longest that an operation is waited for, of each export there can be.
    assert pauses.seconds < 4 * 3600
    for delivery in deliveries(lake):
        read = [(path.read_bytes(), path.stat().st_size) for path in delivery.file_paths]
        assert [size for _, size in read] == [file.size for file in delivery.files]
        assert {bytes for bytes, _ in read} <= {content, answers[STORAGE].body}
        with duckdb.connect() as con:
            _, costs = landed_relations(con, [delivery], lake.parent)
            con.execute(f"SELECT sum(cost) FROM ({costs})").fetchall()


@st.composite
def lines(draw: st.DrawFn) -> dict[str, Any]:
    """A line of usage in which a value is another, or two of them."""
    line = draw(changed(PARTNER_USAGE))
    line = line if isinstance(line, dict) else {"x": line}
    if draw(st.booleans()):
        line[draw(st.sampled_from(sorted(PARTNER_USAGE)))] = draw(texts)
    return line


def billed(*lines: dict[str, Any]) -> Decimal:
    """What the lines cost, by a reader of JSON that is not ours."""
    with localcontext(prec=60):
        return sum(map(_amount, lines), Decimal())


def _amount(line: dict[str, Any]) -> Decimal:
    found = json.loads(json.dumps(line), parse_float=Decimal, parse_int=Decimal)["BillingPreTaxTotal"]
    return Decimal(found.strip() if isinstance(found, str) else found).quantize(Decimal("1e-10"), ROUND_HALF_UP)


@fuzz(30, 600)
@example({**PARTNER_USAGE, "CustomerName": "a\0b"})
@example({**PARTNER_USAGE, "BillingPreTaxTotal": 2**63})
@example({**PARTNER_USAGE, "CustomerName": "\ud800"})
@example({**PARTNER_USAGE, "BillingPreTaxTotal": 10**30})
@example({**PARTNER_USAGE, "Tags": {"a": [{"b": None}]}})
@example({**PARTNER_USAGE, '"a': 1, "a.b[0]": 2, "": 3})
@given(lines())
def test_any_line_is_counted_as_it_stands_or_refused(tmp_path_factory, line):
    lake = tmp_path_factory.mktemp("lines") / "lake"
    with bounded():
        source(Session(right_answers([], [line, PARTNER_USAGE])), Pauses()).land(lake, MONTH, NOW)
    for delivery in deliveries(lake):
        with duckdb.connect() as con:
            found, costs = landed_relations(con, [delivery], lake.parent)
            assert con.execute(f"SELECT sum(cost) FROM ({costs})").fetchall() == [(billed(line, PARTNER_USAGE),)]
            names = {
                name
                for (name,) in con.execute(f"SELECT customer_name FROM ({found['landing.azure_csp_usage']})").fetchall()
            }
        given_name = line.get("CustomerName")
        if isinstance(given_name, str):
            assert {(name or "").strip() for name in names} == {given_name.strip(), PARTNER_USAGE["CustomerName"]}


@fuzz(50, 3_000)
@given(changed(manifest("one", {"part-0.json.gz": b""})))
def test_any_manifest_of_graph(document):
    with bounded():
        found = parse_manifest(document, "Graph")
        assert all(isinstance(name, str) for name in found.blobs)
        found.blob_url("x")


@fuzz(100, 5_000)
@given(HEADER_VALUES)
def test_any_time_to_wait(text):
    wait = retry_after({"Retry-After": text})
    assert wait is None or wait >= 0


@fuzz(50, 3_000)
@given(ERRORS.map(lambda document: json.dumps(document).encode()) | JUNK)
def test_any_refusal(body):
    said = refusal(Answer(403, body).to(stream=False))
    assert said.startswith("HTTP 403")
    assert len(said) < 300
    assert "\n" not in said
    assert TOKEN.split(".")[1] not in said
    assert "bm8t" not in said


PAGE = (
    b"<?xml version='1.0' encoding='utf-8'?><EnumerationResults><Blobs><Blob><Name>a.csv</Name><Properties>"
    b"<Etag>0x8</Etag><Content-Length>3</Content-Length><Content-MD5>AAAAAAAAAAAAAAAAAAAAAA==</Content-MD5></Properties>"
    b"</Blob></Blobs><NextMarker/></EnumerationResults>"
)
LAUGHS = b"<!DOCTYPE x [<!ENTITY a 'aaaaaaaaaa'>%s]><x>&j;</x>" % b"".join(
    b"<!ENTITY %c '%s'>" % (98 + number, b"&%c;" % (97 + number) * 10) for number in range(9)
)


@fuzz(50, 3_000)
@example(LAUGHS)
@example(b"<a>" * 100_000)
@example(PAGE.replace(b"<NextMarker/>", b"<NextMarker>again</NextMarker>"))
@example(PAGE.replace(b"utf-8", b"utf-9"))
@example(PAGE.replace(b">3<", b">three<"))
@example(PAGE.replace(b">3<", b">" + b"9" * 5_000 + b"<"))
@example(PAGE.replace(b"AAAA==", b"="))
@example(PAGE.replace(b"a.csv", b"../../a.csv"))
@given(
    st.tuples(
        st.integers(0, len(PAGE)), st.sampled_from(TEXTS).map(lambda text: text.encode()) | st.binary(max_size=9)
    ).map(lambda drawn: PAGE[: drawn[0]] + drawn[1] + PAGE[drawn[0] :])
    | JUNK
)
def test_any_list_of_blobs(page):
    session = Session({STORAGE: Answer(200, page)})
    with bounded():
        for entry in ContainerListing(Http(session, pause=Pauses()), STORAGE, lambda: SAS).entries():
            assert isinstance(entry.size, int)


@pytest.fixture
def redirecting() -> Iterator[Callable[[str], str]]:
    """The address of a server that leads to the address given; it leads to itself by ``/again``."""

    class Handler(http.server.BaseHTTPRequestHandler):
        to = ""

        def do_GET(self) -> None:
            self.send_response(302)
            self.send_header("Location", type(self).to)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()

    def leading_to(place: str) -> str:
        Handler.to = place
        return f"http://127.0.0.1:{server.server_port}/x?{SAS}"

    yield leading_to
    server.shutdown()
    server.server_close()
    thread.join()


@pytest.mark.parametrize(
    "to", ["/x", "http://[", "http://a b/", "file:///etc/passwd", "//", "http://127.0.0.1:1/", "\xff"]
)
def test_a_redirect_that_leads_nowhere_is_a_sentence(redirecting, to):
    address = redirecting(to)
    with (
        pytest.raises(OctoError, match=r"answers with a redirect|redirects to something that is not") as found,
        requests.Session() as session,
    ):
        open_blob(Http(session, pause=Pauses()), lambda _: address).read()
    assert "sig=" not in str(found.value)


def test_a_landed_month_stays_whatever_is_answered_next(tmp_path):
    """What is there is not touched by an answer that is not understood: not even by one that says there is nothing."""
    answers = right_answers([], [PARTNER_USAGE])
    source(Session(answers), Pauses()).land(tmp_path / "lake", MONTH, NOW)
    (before,) = newest_deliveries(tmp_path / "lake", MONTH)
    for body in (
        b"null",
        b"[]",
        b"{}",
        b'{"items": null}',
        b'{"items": {}}',
        b'{"items": [1]}',
        b'{"items": [{"id": 1}]}',
    ):
        changed_answers = {**answers, f"{PARTNER_CENTER_URL}/v1/invoices": Answer(200, body)}
        with pytest.raises(OctoError, match="could not list the invoices"):
            source(Session(changed_answers), Pauses()).land(tmp_path / "lake", MONTH, NOW)
        assert newest_deliveries(tmp_path / "lake", MONTH) == [before]
