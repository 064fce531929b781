"""The console in Debian's chromium, on two sample months of three vendors: what people see, with and without JavaScript."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

pytestmark = pytest.mark.slow
MONTH = "2024-02"
PAGES = (
    "/", "/allocations", "/rules", "/rules/new", "/rules/enterprise-support", "/rules/enterprise-support/supersede",
    "/rules/enterprise-support/versions", "/cost-groups", "/cost-groups/new", "/cost-groups/product-teams",
    "/cost-groups/product-teams/edit", "/accounts", "/accounts/register", "/accounts/register/aws", "/accounts/aws/400000000001",
    "/statements", "/statements/journal", "/data", "/data/new-metric", "/users", "/users/audit",
)  # fmt: skip


@dataclass
class Site:
    """A console that is served by a process of its own."""

    address: str
    session: str


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    environment = {
        **os.environ,
        "OCTO_LAKE": str(folder / "lake"),
        "OCTO_CONFIG": str(folder / "config"),
        **{f"OCTO_{v.upper()}_EXPORTS": str(folder / "exports" / v) for v in ("aws", "azure", "gcp")},
    }

    def octo(*arguments: str) -> None:
        command = [sys.executable, "-m", "octo_pipeline.cli.main", *arguments]
        subprocess.run(command, env=environment, check=True, capture_output=True)

    octo("sample", str(folder / "exports"), "--from", "2024-01", "--to", MONTH, "--lines", "2000")
    octo("run", "--from", "2024-01", "--to", MONTH)
    octo("registry", "init", "--admin", _user())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "octo_pipeline.cli.main", "serve", "--port", str(port)]
    server = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        link = server.stdout.readline().removeprefix("Console: ").strip()
        assert link.startswith("http"), link
        _wait_for(port, server)
        import requests

        session = requests.get(link, allow_redirects=False, timeout=30).cookies["octo_session"]
        yield Site(f"http://127.0.0.1:{port}", session)
    finally:
        server.send_signal(signal.SIGINT)
        server.communicate(timeout=30)


def _user() -> str:
    from octo_pipeline.services.access import os_user

    return os_user()


def _wait_for(port: int, server: subprocess.Popen) -> None:
    for _ in range(300):
        assert server.poll() is None, server.stdout.read()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.2)
    raise AssertionError("The server did not answer.")


@pytest.fixture(scope="module")
def browser():
    from playwright.sync_api import sync_playwright

    path = shutil.which("chromium")
    if path is None:
        pytest.skip("chromium is not installed, so the console is not looked at in a browser")
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox", "--disable-gpu"])
        yield started
        started.close()


def _window(browser, site: Site, **more):
    context = browser.new_context(base_url=site.address, **more)
    context.add_cookies([{"name": "octo_session", "value": site.session, "url": site.address}])
    return context


def test_the_console(browser, site):
    """One test, because each worker of the tests would make the months anew."""
    _every_page_is_whole_and_keeps_to_the_rules_of_accessibility(browser, site)
    _the_keyboard_goes_everywhere(browser, site)
    _it_is_printed_without_its_buttons(browser, site)
    _it_works_without_javascript(browser, site)


def _every_page_is_whole_and_keeps_to_the_rules_of_accessibility(browser, site):
    from axe_playwright_python.sync_playwright import Axe

    problems: list[str] = []
    for scheme, widths in (("light", (2560, 390, 1280)), ("dark", (390,))):
        with _window(browser, site, color_scheme=scheme) as context:
            page = context.new_page()
            page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: problems.append(str(error)))
            for path in PAGES:
                answer = page.goto(f"{path}?month={MONTH}")
                assert answer.status == 200, path
                assert page.locator("h1").count() == 1, path
                for width in widths:
                    page.set_viewport_size({"width": width, "height": 900})
                    overflow = page.evaluate("document.documentElement.scrollWidth - innerWidth")
                    assert overflow <= 0, (path, width, overflow)
                violations = Axe().run(page).response["violations"]
                assert [(v["id"], v["nodes"][0]["html"]) for v in violations] == [], (path, scheme)
    assert problems == []


def _the_keyboard_goes_everywhere(browser, site):
    with _window(browser, site) as context:
        page = context.new_page()
        page.goto(f"/?month={MONTH}")
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
        page.keyboard.press("Enter")
        assert page.evaluate("document.activeElement.id") == "content"
        page.goto(f"/allocations?month={MONTH}")
        page.keyboard.press("j")
        assert page.evaluate("document.activeElement.matches('table.list a.row')")
        page.keyboard.press("/")
        assert page.evaluate("document.activeElement.closest('.filters') !== null")


def _it_is_printed_without_its_buttons(browser, site):
    with _window(browser, site) as context:
        page = context.new_page()
        page.goto(f"/?month={MONTH}")
        page.emulate_media(media="print")
        assert not page.get_by_role("button", name="Sign out").is_visible()
        assert not page.locator("nav.pages").is_visible()
        assert page.locator("h1").is_visible()


def _it_works_without_javascript(browser, site):
    with _window(browser, site, java_script_enabled=False) as context:
        page = context.new_page()
        page.goto("/")
        page.select_option("#month", "2024-01")
        page.get_by_role("button", name="Show").click()
        assert page.locator("h1").inner_text() == "2024-01"
        reason = page.get_by_label("Why it is closed all the same")
        if reason.count():
            reason.fill("a test")
        page.get_by_role("button", name=re.compile("Close 2024-01")).click()
        assert "2024-01 is closed." in page.get_by_role("status").inner_text()
        assert page.locator(".tag").first.inner_text() == "closed"
        page.get_by_text("Reopen 2024-01").first.click()
        page.get_by_label("Why", exact=True).fill("a test of reopening")
        page.get_by_role("button", name="Reopen 2024-01").click()
        assert "2024-01 is reopened." in page.get_by_role("status").inner_text()
        page.get_by_role("link", name="Allocations", exact=True).click()
        assert page.locator("table.list tbody tr").count() > 5


@pytest.mark.browser
def test_a_rule_is_written_tried_saved_and_run_and_its_item_restored(browser, site):
    """The story of the product's own manual: an allocator with two targets and a default account, by the form alone."""
    with _window(browser, site) as context:
        page = context.new_page()
        page.goto(f"/rules/new?month={MONTH}")

        def write(fields: dict[str, str]) -> None:
            for field, text in fields.items():
                page.locator(field).fill(text)

        write({"#text-id": "support-fee", "#text-priority": "-1", "#text-defaultAccount": "999988887777"})
        page.locator("#criteria-0-0-operator").select_option(label="matches")
        write({"#criteria-0-0-key": "account", "#criteria-0-0-value": "^999988887777$"})
        page.get_by_role("button", name="Add a condition").click()
        page.locator("#criteria-0-1-operator").select_option(label="matches")
        write({"#criteria-0-1-key": "description", "#criteria-0-1-value": ".*Support Fee.*"})
        write({"#targets-0-value": "400000000001", "#targets-0-months": "3"})
        page.get_by_role("button", name="Add a target").click()
        write({"#targets-1-value": "400000000002", "#targets-1-formula": "cost*0.2", "#targets-1-months": "2"})
        page.get_by_text("away from enterprise-support").wait_for()
        page.get_by_role("button", name="Save the rule").click()
        assert "support-fee is saved." in page.get_by_role("status").first.inner_text()

        page.get_by_role("button", name=f"Bring {MONTH} up to date").click()
        page.get_by_text("Done.").wait_for()
        page.goto(f"/allocations?month={MONTH}&allocator=support-fee")
        statuses = page.locator("table.list tbody .tag").all_inner_texts()
        assert statuses == ["Checked Allocated", *3 * ["Checked Splitted"]]

        page.locator("table.list a.row").first.click()
        for action, status in (("Restore", "Unchecked Allocated"), ("Re-apply", "Checked Allocated")):
            page.get_by_role("link", name=f"{action}…").click()
            page.get_by_label("Why").fill("a test")
            page.get_by_role("button", name=action).click()
            page.get_by_text("Done.").wait_for()
            page.get_by_role("link", name="To the item").click()
            assert page.locator("table.list .tag").first.inner_text() == status
