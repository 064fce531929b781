"""What a viewer of some cost groups sees in the console: theirs, and no page that cannot be limited."""

import re

from octo_pipeline.registry.records import Actor

# Pages that filter. Another page that viewers may open is refused to those who are limited.
FILTERED = {
    "/", "/accounts", "/accounts/{vendor}/{account}", "/sign-in", "/sign-in/link", "/sign-in/openid", "/sign-in/openid/callback",
}  # fmt: skip


def test_a_limited_viewer_opens_pages_that_filter_alone(own_console):
    own_console.workspace.registry.users.limit("the-viewer", ["shop"], Actor("tester"))
    month = own_console.text("/")
    assert "35.00" in month
    # What the other account pays, and the whole bill.
    assert not re.search("105.00|140.00", month)
    paths = own_console.client("viewer").app.state.pages.openapi()["paths"]
    for path in {path for path, methods in paths.items() if "get" in methods} - FILTERED:
        answer = own_console.get(re.sub(r"\{[^}]*\}", "x", path))
        assert (answer.status_code, "cannot be limited to the cost groups" in answer.text) == (403, True), path
    accounts = own_console.page("/accounts")
    assert 'href="/accounts/aws/1"' in accounts and 'href="/accounts/aws/2"' not in accounts
    assert "35.00" in own_console.text("/accounts/aws/1")
    assert own_console.get("/accounts/aws/2").status_code == 404
    assert own_console.post("/sign-out", "viewer").status_code == 303
    assert own_console.get("/").status_code == 303
