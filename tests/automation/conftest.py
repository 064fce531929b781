"""The webhook of the tests of alerts."""

import pytest

from tests.support.webhook import serving_webhook


@pytest.fixture
def webhook(monkeypatch):
    """A webhook that is set, as what is posted to it and the statuses of its next answers."""
    statuses = [200]
    with serving_webhook(statuses) as (address, posted):
        monkeypatch.setenv("OCTO_ALERT_WEBHOOK", address)
        yield posted, statuses
