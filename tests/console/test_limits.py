"""What is refused before it comes to a page, as a page."""

from octo_pipeline.api import limits

_BROWSER = {"Accept": "text/html,application/xhtml+xml"}


def test_too_many_requests_are_refused_by_a_page(own_console, monkeypatch):
    monkeypatch.setattr(limits, "MOST_REQUESTS", 1)
    answers = [own_console.get("/rules", headers=_BROWSER) for _ in range(3)]
    refused = answers[-1]
    assert (refused.status_code, refused.headers["retry-after"]) == (429, "60")
    assert "Too many requests; wait a minute." in refused.text
    # As a page it needs what pages need: a style, and that no other page frames it.
    assert refused.headers["content-security-policy"] == answers[0].headers["content-security-policy"]
    assert own_console.get("/rules", headers={"Accept": "application/json"}).json()["code"] == "too-many-requests"


def test_a_form_that_is_too_long_is_refused_by_a_page(console):
    form = {"draft": "x" * limits.MOST_BYTES}
    refused = console.post("/rules/try", form=form, headers=_BROWSER)
    assert refused.status_code == 413
    assert "A body has at most 4,194,304 bytes." in refused.text
    assert '<main id="content"' in refused.text
