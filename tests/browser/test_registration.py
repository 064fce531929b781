"""The registration of an AWS payer and a linked account in a browser, against emulated accounts, to Completed."""

import re
import shutil
import socket
import threading
import time

import pytest
import uvicorn

from octo_pipeline.console.app import create_app
from octo_pipeline.registry.records import Caller
from octo_pipeline.settings import Settings
from tests.emulators.aws_accounts import PRINCIPAL, TEMPLATE_URL, aws_accounts
from tests.support.aws_registration import CUR_BUCKET, SAMPLE_PAYER, deliver_report

__all__ = ["aws_accounts"]

pytestmark = pytest.mark.browser


@pytest.fixture
def address(made_month, tmp_path, aws_accounts, monkeypatch):
    """The address of a console with an administrator's link, as `octo serve` prints it."""
    monkeypatch.setenv("OCTO_AWS_PRINCIPAL", PRINCIPAL)
    monkeypatch.setenv("OCTO_AWS_TEMPLATE_URL", TEMPLATE_URL)
    folder, tokens = made_month
    shutil.copytree(folder, tmp_path / "copy")
    app = create_app(Settings(lake=tmp_path / "copy" / "lake", config=tmp_path / "copy" / "config"))
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
        thread.start()
        while not server.started:
            time.sleep(0.05)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}", app.state.links.make(Caller(None, tokens["admin"]))
        server.should_exit = True
        thread.join()


def launched(page, aws_accounts, account: str) -> None:
    """Do with the launch link of the page what a person does in CloudFormation."""
    link = page.get_by_role("link", name="Open AWS launch page")
    assert link.get_attribute("target") == "_blank"
    aws_accounts.open(link.get_attribute("href"), account)


def confirmed(page) -> None:
    """Press Confirm."""
    page.get_by_role("button", name="Confirm").click()
    page.wait_for_load_state()


def states(page) -> list[str]:
    """API, PAYER and CUR as the page has them."""
    return [re.sub(r"\s+", " ", text).strip() for text in page.locator(".heading .tag").all_inner_texts()]


def test_a_payer_and_a_linked_account_are_registered_to_the_end(browser, address, aws_accounts, tmp_path):
    base, link = address
    (linked,) = aws_accounts.organization(SAMPLE_PAYER, "Workload")
    page = browser.new_page()
    problems = []
    page.on("console", lambda message: problems.append(message.text) if message.type == "error" else None)
    page.goto(base + link)
    page.get_by_role("link", name="Accounts", exact=True).click()
    page.get_by_role("link", name="Register an account").click()
    page.get_by_role("link", name="Register aws").click()
    page.get_by_label("AWS account").fill(SAMPLE_PAYER)
    page.get_by_label("Name (if you like)").fill("Main")
    page.get_by_role("button", name="Register").click()
    assert states(page) == ["API open"]

    # Too early: it says what failed, and the link is still there.
    confirmed(page)
    assert "press Confirm again" in page.locator(".note.bad").inner_text()
    launched(page, aws_accounts, SAMPLE_PAYER)
    confirmed(page)
    assert states(page) == ["API Completed", "CUR open"]

    page.get_by_label("Name of the report").fill("octo-sample")
    page.get_by_label("Folder in the bucket").fill("cur")
    assert page.get_by_label("Name of the bucket").input_value() == CUR_BUCKET
    page.get_by_role("button", name="Save").click()
    launched(page, aws_accounts, SAMPLE_PAYER)
    confirmed(page)
    assert "there is no Cost and Usage Report below" in page.locator(".note.bad").inner_text()
    deliver_report(aws_accounts, tmp_path / "exports")
    confirmed(page)
    assert states(page) == ["API Completed", "CUR Completed"]

    page.goto(f"{base}/accounts/register/aws")
    page.get_by_label("AWS account").fill(linked)
    page.get_by_role("button", name="Register").click()
    launched(page, aws_accounts, linked)
    confirmed(page)
    assert states(page) == ["API Completed", "PAYER Completed"]
    page.goto(f"{base}/accounts?state=completed")
    assert page.locator("a.row").all_inner_texts() == sorted([SAMPLE_PAYER, linked])
    assert problems == []
    page.close()
