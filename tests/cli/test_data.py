"""`octo rates` and `octo deliveries sources`."""

import json

from typer.testing import CliRunner

from octo_pipeline.cli.main import app


def octo(*arguments: str) -> str:
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, (result.output, result.exception)
    return result.output


def test_rates_and_sources_are_listed(workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("OCTO_LAKE", str(workspace.settings.lake))
    monkeypatch.setenv("OCTO_CONFIG", str(workspace.settings.config))
    monkeypatch.setenv("OCTO_AWS_EXPORTS", str(tmp_path))
    rates = "month,currency,rate\n2024-01,EUR,1.123456789012\n2024-02,EUR,1.2\n"
    (workspace.settings.config / "exchange_rates.csv").write_text(rates)
    assert "1.123456789012" in octo("rates")
    assert [row["rate"] for row in json.loads(octo("rates", "--month", "2024-03", "-o", "json"))] == ["1.2"]
    (source,) = json.loads(octo("deliveries", "sources", "-o", "json"))
    assert (source["vendor"], source["late"], source["problem"]) == ("aws", "It has delivered nothing yet.", None)
    assert json.loads(octo("deliveries", "list", "-o", "json")) == []
