"""What is read out of an answer of Azure's services before anybody asks what it means."""

import pytest

from octo_pipeline.sources.azure_http import reason, refusal, retry_after

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


@pytest.mark.parametrize("document", [RecursionError(), ValueError("no JSON"), [], "x", None, {"error": "x"}, {"error": [1]}])
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
