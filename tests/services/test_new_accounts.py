"""Accounts that were registered within a day and are not Completed: asked again, and missed by nobody yet."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest

from octo_pipeline.assets.months import answered
from octo_pipeline.definitions import defs
from octo_pipeline.model.errors import NotAskedError
from octo_pipeline.registry.records import Account, Actor, NewAccount
from octo_pipeline.services import accounts, sources
from octo_pipeline.services.accounts import confirm_new
from octo_pipeline.services.months import Landed
from octo_pipeline.services.sources import NewAccountError, NotConfirmedError
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.workspace import Workspace

PAYER = "111122223333"
SOURCE = {"vendor": "aws", "account": PAYER, "bucket": "company-cur"}


@pytest.fixture
def registered(workspace: Workspace) -> Workspace:
    """A workspace with a payer whose report is set up and not confirmed."""
    new = NewAccount("aws", PAYER, kind="payer", external_id="octo-1", settings={"source": SOURCE, "cur": {}})
    workspace.registry.accounts.add([new], Actor("ana"))
    return workspace


class Vendor:
    """A registration that answers as the test says, and keeps whom it was asked about."""

    def __init__(self, problem: str | None = None, error: Exception | None = None) -> None:
        self.problem, self.error, self.asked = problem, error, []

    def confirm(self, workspace: Workspace, actor: Actor, account: Account) -> Account:
        self.asked.append((actor, account.account_id))
        if self.error:
            raise self.error
        now = datetime.now(UTC)
        confirmed = None if self.problem else now
        return workspace.registry.accounts.change(
            account, actor, "confirm_account", api_confirmed_at=now, cur_confirmed_at=confirmed, problem=self.problem
        )


def test_open_accounts_are_asked_about_again_for_a_day(registered, monkeypatch):
    now = datetime.now(UTC)
    vendor = Vendor(problem="AWS writes the first report within a day")
    monkeypatch.setattr(accounts.registration, "of", lambda account: vendor)
    assert confirm_new(registered, now) == [
        f"the aws account {PAYER} is open (AWS writes the first report within a day)."
    ]
    assert vendor.asked == [("octo-pipeline", PAYER)]
    vendor.error = NotAskedError("AWS cannot be reached.", code="not-asked")
    assert confirm_new(registered, now) == [f"the aws account {PAYER}: AWS cannot be reached."]
    # A day later people have to look themselves.
    assert confirm_new(registered, now + timedelta(days=1)) == []
    vendor.problem = vendor.error = None
    assert confirm_new(registered, now) == [f"the aws account {PAYER} is Completed."]
    assert confirm_new(registered, now) == []
    assert len(vendor.asked) == 3


def test_the_sensor_asks_every_hour_by_itself(registered, monkeypatch):
    sensor = defs.resolve_sensor_def("new_accounts")
    assert (sensor.minimum_interval_seconds, sensor.default_status) == (3600, dg.DefaultSensorStatus.RUNNING)
    monkeypatch.setattr(accounts.registration, "of", lambda account: Vendor())
    with dg.build_sensor_context(
        repository_def=defs.get_repository_def(), resources={"workspace": registered}
    ) as context:
        tick = sensor.evaluate_tick(context)
    assert tick.skip_message == f"the aws account {PAYER} is Completed."


def test_a_run_with_a_new_account_succeeds_with_a_warning_until_it_is_a_day_old(registered, tmp_path, monkeypatch):
    (source,) = sources.registered_sources(registered, "aws")
    with pytest.raises(NewAccountError, match="is registered, but not Completed"):
        source.available("2024-01")
    write_cur(tmp_path / "exports", months=["2024-01"], accounts=3, lines=100)
    settings = registered.settings

    def octo(changes: str, code: int) -> str:
        environment = {name: value for name, value in os.environ.items() if name != "DAGSTER_HOME"}
        environment |= {"OCTO_LAKE": str(settings.lake), "OCTO_CONFIG": str(settings.config)}
        environment["OCTO_AWS_EXPORTS"] = str(tmp_path / "exports" / "aws")
        program = f"{changes}from octo_pipeline.cli.main import main; main()"
        arguments = [sys.executable, "-c", program, "run", "--month", "2024-01"]
        done = subprocess.run(arguments, env=environment, capture_output=True, text=True)
        assert done.returncode == code, done.stderr
        return done.stderr

    message = f"2024-01: the aws account {PAYER} is registered, but not Completed"
    assert message in octo("", 0)
    a_day_later = "from datetime import timedelta; from octo_pipeline.services import sources; sources.NEW_ACCOUNT = timedelta(0)\n"
    later = octo(a_day_later, 1)
    assert message in later
    assert "octo: 2024-01 was made from what is landed, because a source could not deliver" in later


@pytest.mark.parametrize(("kind", "severity"), [(NewAccountError, "WARN"), (NotConfirmedError, "ERROR")])
def test_nobody_is_alerted_of_a_new_account(kind, severity):
    error = kind("It is registered, but not Completed.", code="account-not-confirmed")
    check = answered(Landed("aws", "2024-01", "unchanged", 1, 1, 1, "f", (error,)))
    assert (check.passed, check.severity.value) == (False, severity)
