"""What is read out of an answer of Azure's services before anybody asks what it means."""

import io

import pytest
import urllib3

from octo_pipeline.model.errors import OctoError
from octo_pipeline.vendors.azure.azure_http import Http, reason, refusal, retry_after
from octo_pipeline.vendors.azure.blobs import ContainerListing, open_blob

TOKEN = "eyJ0eXAiOiJKV1QifQ.eyJhdWQiOiJncmFwaCJ9.c2lnbmF0dXJl"


class Answer:
    status_code = 403

    def __init__(self, document):
        self._document = document

    def json(self):
        if isinstance(self._document, Exception):
            raise self._document
        return self._document


@pytest.mark.parametrize(
    ("text", "wait"),
    [("7", 7.0), ("-7", 0.0), ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0), ("", None), ("soon", None),
     ("Wed, 21 Oct 2015 07:28:00 +99999999999999999999", None), ("Wed, 21 Oct 99999999999999999999 07:28:00 GMT", None)],
)  # fmt: skip
def test_a_time_to_wait(text, wait):
    """Regression: a date out of all bounds ended in a traceback."""
    assert retry_after({"Retry-After": text}) == wait


@pytest.mark.parametrize(
    "document", [RecursionError(), ValueError("no JSON"), [], "x", None, {"error": "x"}, {"error": [1]}]
)
def test_a_refusal_without_a_reason(document):
    """Regression: a body that is nested too deep ended in a traceback."""
    assert refusal(Answer(document)) == "HTTP 403"


def test_a_reason_is_short_and_without_secrets():
    """Regression: what a service repeated of a request was in the sentence."""
    said = f"Bearer {TOKEN}\nis no token, nor is\thttps://x/y?se=1&sig=c2VjcmV0%3D&sp=r"
    assert reason({"code": "Forbidden", "message": said}) == (
        "Forbidden Bearer … is no token, nor is https://x/y?se=1&sig=…&sp=r"
    )
    assert len(reason({"code": "x" * 70_000})) == 200


class Storage:
    """Answers all requests alike."""

    status_code = 200

    def __init__(self, content=b"", headers=None):
        self.content, self.headers = content, headers or {}
        self.raw = urllib3.HTTPResponse(io.BytesIO(content), preload_content=False)

    def request(self, *_, **__):
        return self

    def close(self):
        pass


@pytest.mark.parametrize("header", [{"Content-Length": "many"}, {"Content-MD5": "A"}, {"Content-MD5": "é"}])
def test_a_blob_that_is_announced_wrongly(header):
    """Regression: it ended in a traceback."""
    with pytest.raises(OctoError, match="https://x/y was announced with an invalid length or checksum"):
        open_blob(Http(Storage(headers=header)), lambda _: "https://x/y?sig=x").read(1)


@pytest.mark.parametrize("page", [b"", b"<a>", b"<?xml version='1.0' encoding='utf-9'?><a/>",
                                  b"<a><Blob><Properties><Content-Length>x</Content-Length></Properties></Blob></a>"])  # fmt: skip
def test_a_list_of_blobs_that_is_none(page):
    """Regression: it ended in a traceback."""
    with pytest.raises(OctoError, match="https://x/y returned a list of blobs that cannot be parsed"):
        ContainerListing(Http(Storage(page)), "https://x/y", lambda: "sig=x").entries()


def test_a_list_of_blobs_that_goes_on_for_ever():
    """Regression: it was read for ever."""
    page = b"<a><Blob><Name>a.csv</Name></Blob><NextMarker>again</NextMarker></a>"
    with pytest.raises(OctoError, match="The list of the blobs of https://x/y does not end"):
        ContainerListing(Http(Storage(page)), "https://x/y", lambda: "sig=x").entries()
