"""The launchpad's jobs: they do what the command line does, and say what is wrong in a sentence."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from uuid import uuid4

import dagster as dg
import pytest

from octo_pipeline.assets.cost_line_items import VIEWS
from octo_pipeline.assets.dagster_compat import RecordedRun, RecordedVersions
from octo_pipeline.assets.months import event_metadata
from octo_pipeline.automation import recording
from octo_pipeline.automation.accounts import jobs as account_jobs
from octo_pipeline.automation.launchpad import AREA
from octo_pipeline.automation.operations import (
    backfill,
    operations,
    reapply_items,
    reland_delivery,
    restore_items,
    simulate_allocator,
)
from octo_pipeline.automation.recording import AssetEvent, asset_events
from octo_pipeline.automation.typed import ALLOCATOR
from octo_pipeline.registry.records import Actor
from octo_pipeline.rules.allocator import Allocator
from octo_pipeline.services.access import os_user
from octo_pipeline.services.decide import find_items
from octo_pipeline.services.landing import land_month
from octo_pipeline.services.reasons import reasons
from octo_pipeline.services.sources import sources
from octo_pipeline.settings import Settings
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.matched_items import MatchedItems
from octo_pipeline.tables.resolved_accounts import ResolvedAccounts
from octo_pipeline.tables.table import Materialised, materialise
from octo_pipeline.vendors.aws.sample import write_cur
from octo_pipeline.workspace import Workspace
from tests.support.case import run
from tests.support.small_month import FEE_OF_100, MONTH, USAGE_OF_10_AND_30, fee_allocator
from tests.support.workspaces import administered, workspace_in


def launched(job: dg.JobDefinition, workspace: Workspace, op: str, config: dict, instance=None):
    return job.execute_in_process(
        run_config={"ops": {op: {"config": config}}},
        resources={"workspace": workspace},
        raise_on_error=False,
        instance=instance,
    )


def metadata(result, op: str) -> dict:
    (event,) = [e for e in result.all_node_events if e.is_successful_output]
    return {name: value.value for name, value in event.step_output_data.metadata.items()}


def reason(result) -> str:
    (failed,) = [e for e in result.all_node_events if e.is_step_failure]
    return failed.step_failure_data.user_failure_data.description


@pytest.fixture
def month(tmp_path):
    return run(workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], []), [MONTH])


def test_simulate_tells_who_would_get_what(month):
    result = launched(
        simulate_allocator, month, "simulate", {"allocator": fee_allocator() | {"id": "new"}, "month": MONTH}
    )
    assert result.success
    told = metadata(result, "simulate")
    assert told["allocator"] == f"new (fee) on {MONTH}"
    assert "| 2024-01 | 2 | split | USD | 1 | 75 |" in told["Who gets how much"]
    assert "| 2024-01 | fee | 9 | USD | 0 | -100 | -100 |" in told["Difference to what is live"]


def test_simulate_takes_a_file(month, tmp_path):
    import json

    (tmp_path / "rule.json").write_text(json.dumps(fee_allocator()))
    result = launched(simulate_allocator, month, "simulate", {"file": str(tmp_path / "rule.json"), "month": MONTH})
    assert metadata(result, "simulate")["allocator"] == f"rule (fee) on {MONTH}"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({}, "Give either the allocator's document or its file."),
        ({"file": "gone.json"}, "The file gone.json cannot be read"),
        ({"allocator": fee_allocator("cost*20%")}, "allocator[0].formula: Column 9 of the formula"),
        ({"allocator": fee_allocator(), "month": "2023-01"}, "no cost line items of 2023-01"),
    ],
)
def test_a_wrong_simulation_is_a_sentence(month, config, said):
    result = launched(simulate_allocator, month, "simulate", config)
    assert not result.success
    assert said in reason(result)


def test_a_backfill_makes_what_it_can_names_the_rest_and_records_each_partition(tmp_path):
    months = ["2024-01", "2024-02", "2024-03"]
    for name in ("allocators", "cost_groups"):
        (tmp_path / "config" / name).mkdir(parents=True)
    write_cur(tmp_path / "exports", months=months, accounts=3, lines=100)
    data = next(p for p in (tmp_path / "exports").rglob("*.parquet") if p.parent.name.startswith("20240201-"))
    whole = data.read_bytes()
    data.write_bytes(whole[:-100])
    settings = Settings(lake=tmp_path / "lake", config=tmp_path / "config", aws_exports=tmp_path / "exports" / "aws")
    with dg.instance_for_test() as instance:
        config = {"first": "2024-01", "last": "2024-03"}
        result = launched(backfill, Workspace(settings), "make_the_months", config, instance)
        assert "2024-02 was not published" in reason(result)
        assert data.name in reason(result)
        assert Workspace(settings).lake.months("account_costs") == ["2024-01", "2024-03"]
        recorded = instance.get_materialized_partitions(dg.AssetKey("allocations"))
        assert recorded == {"2024-01", "2024-03"}

        data.write_bytes(whole)
        result = launched(backfill, Workspace(settings), "make_the_months", config, instance)
        assert metadata(result, "make_the_months")["months"].splitlines()[2:] == [
            f"| 2024-01 | 0 | {len(TABLES)} |",
            f"| 2024-02 | {len(TABLES)} | 0 |",
            f"| 2024-03 | 0 | {len(TABLES)} |",
        ]
        (event,) = instance.fetch_materializations(
            dg.AssetRecordsFilter(asset_key=dg.AssetKey("allocations"), asset_partitions=["2024-02"]), limit=1
        ).records
        tags = event.asset_materialization.tags
        fingerprint = Workspace(settings).lake.fingerprint("allocations", "2024-02")
        assert tags["dagster/data_version"] == fingerprint


def test_a_backfill_the_wrong_way_round_is_a_sentence(month):
    result = launched(backfill, month, "make_the_months", {"first": "2024-02", "last": "2024-01"})
    assert reason(result) == "The first month 2024-02 is after the last 2024-01."


@pytest.fixture
def split_month(tmp_path):
    workspace = run(
        workspace_in(tmp_path, [*USAGE_OF_10_AND_30, FEE_OF_100], [fee_allocator() | {"id": "half"}]), [MONTH]
    )
    return administered(Workspace(workspace.settings))


def statuses(workspace: Workspace) -> set[str]:
    with workspace.lake.connect() as connection:
        found = connection.execute(f"SELECT DISTINCT status FROM '{workspace.lake.path('allocations', MONTH)}'")
        return {status for (status,) in found.fetchall()}


def test_items_are_restored_and_re_applied_on_the_record_and_recorded_in_dagster(split_month):
    chosen = {"allocator": "half", "month": MONTH, "reason": "the vendor refunded it"}
    with dg.instance_for_test() as instance:
        result = launched(restore_items, split_month, "restore", chosen, instance)
        assert result.success
        assert metadata(result, "restore")["items"] == 1
        assert "| allocations | 2024-01 | published |" in metadata(result, "restore")["partitions"]
        assert instance.get_materialized_partitions(dg.AssetKey("allocations")) == {MONTH}
        assert statuses(split_month) == {"unchecked_allocated"}
        again = launched(restore_items, split_month, "restore", chosen, instance)
        assert reason(again) == "All of these items are restored already. Nothing was recorded."
        assert launched(reapply_items, split_month, "reapply", chosen, instance).success
    assert statuses(split_month) == {"checked_allocated", "checked_splitted"}
    history = split_month.registry.decisions()
    assert [(one.action, one.reason) for one in history] == [
        ("restore", "the vendor refunded it"),
        ("reapply", "the vendor refunded it"),
    ]


def test_a_viewer_restores_nothing(split_month, monkeypatch):
    from octo_pipeline.services import access as acting

    split_month.registry.users.add("ben", "viewer", "ana")
    monkeypatch.setattr(acting, "os_user", lambda: "ben")
    result = launched(restore_items, split_month, "restore", {"allocator": "half", "month": MONTH, "reason": "x"})
    assert "ben" in reason(result)
    assert split_month.registry.decisions() == []
    assert "checked_splitted" in statuses(split_month)


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"reason": "x"}, "Name either an item by its id, or an allocator"),
        ({"reason": "x", "allocator": "half"}, "Name the month in which"),
        ({"reason": "x", "item": "ffff"}, "ffff"),
    ],
)
def test_a_wrong_restore_is_a_sentence(split_month, config, said):
    assert said in reason(launched(restore_items, split_month, "restore", config))


def test_a_delivery_is_fetched_again_if_its_source_still_has_it(tmp_path):
    for name in ("allocators", "cost_groups"):
        (tmp_path / "config" / name).mkdir(parents=True)
    write_cur(tmp_path / "exports", months=[MONTH], accounts=3, lines=100)
    exports = tmp_path / "exports" / "aws"
    workspace = Workspace(Settings(lake=str(tmp_path / "lake"), config=tmp_path / "config", aws_exports=exports))
    administered(workspace)
    (delivery,) = land_month(workspace, "aws", sources(workspace, "aws"), MONTH).deliveries
    file = delivery.file_paths[0]
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + b"x")
    result = launched(reland_delivery, workspace, "fetch_again", {"version": delivery.version[:8]})
    assert result.success
    assert metadata(result, "fetch_again")["delivery"] == delivery.title
    assert file.read_bytes() == whole
    assert workspace.registry.audit()[0].action == "reland_delivery"

    write_cur(tmp_path / "exports", months=[MONTH], accounts=3, lines=100, seed=8)
    result = launched(reland_delivery, workspace, "fetch_again", {"version": delivery.version[:8]})
    assert "No source offers" in reason(result)
    assert file.read_bytes() == whole


@pytest.mark.parametrize(
    ("job", "config", "message"),
    [
        ("simulate_allocator", {"month": "2024-13"}, "simulate:config:month not in enum type"),
        ("simulate_allocator", {"allocator": {"startMonth": "202401"}}, "allocator:startMonth not in enum type"),
        ("simulate_allocator", {"allocator": {"category": "fees"}}, "allocator:category not in enum type"),
        ("simulate_allocator", {"allocator": {"categry": "fee"}}, 'unexpected config entry "categry"'),
        (
            "simulate_allocator",
            {"allocator": {"criteria": [{"and": {"product": "x"}}]}},
            'unexpected config entry "product"',
        ),
        (
            "simulate_allocator",
            {"allocator": {"allocator": [{"type": "acount", "value": "1"}]}},
            "allocator[0]:type not in enum type",
        ),
        (
            "simulate_allocator",
            {"allocator": {"allocator": [{"value": "1"}]}},
            'Missing required config entry "type"',
        ),
        ("backfill", {"first": "2024-01", "last": "2024-13"}, "config:last not in enum type"),
        ("restore_items", {"reason": "x", "allocator": "a0", "month": "2024-1"}, "config:month not in enum type"),
    ],
)
def test_a_wrong_configuration_is_refused_before_there_is_a_run(job, config, message):
    """What the launchpad underlines: it checks a configuration against the same types."""
    definition = next(one for one in operations if one.name == job)
    (op,) = [node.name for node in definition.nodes]
    if "allocator" in config and job == "simulate_allocator":
        config = {"allocator": fee_allocator() | config["allocator"]}
    with pytest.raises(dg.DagsterInvalidConfigError) as refused:
        dg.validate_run_config(definition, {"ops": {op: {"config": config}}})
    assert message in str(refused.value)


def test_a_document_as_people_write_it_is_accepted_in_the_launchpad():
    """Empty texts are not set, and numbers may be texts."""
    document = fee_allocator() | {"category": "", "expiration": "3", "defaultAccount": "", "startMonth": ""}
    document["allocator"][0] |= {"months": "2", "formula": ""}
    assert set(document) <= set(ALLOCATOR.fields)
    dg.validate_run_config(simulate_allocator, {"ops": {"simulate": {"config": {"allocator": document}}}})


def test_the_launchpad_knows_every_key_of_a_rule():
    assert set(ALLOCATOR.fields) == {field.alias or name for name, field in Allocator.model_fields.items()}


def test_jobs_of_accounts_and_secrets_are_apart_from_the_others():
    areas = {job.name: job.tags[AREA] for job in [*operations, *account_jobs]}
    assert {name for name, area in areas.items() if area == "accounts and secrets"} == {
        job.name for job in account_jobs
    }


def test_partitions_that_a_restore_makes_again_say_why(month, tmp_path):
    (month.settings.config / "allocators" / "fees.json").write_text(json.dumps(fee_allocator() | {"id": "fees"}))
    workspace = administered(run(Workspace(month.settings), [MONTH]))
    (item,) = find_items(workspace, allocator="fees", month=MONTH)
    config = {"item": item.item_id[:8], "reason": "The audit's | own"}
    result = launched(restore_items, workspace, "restore", config)
    made = [
        e.materialization for e in result.all_node_events if e.event_type == dg.DagsterEventType.ASSET_MATERIALIZATION
    ]
    (allocations,) = [one for one in made if one.asset_key == dg.AssetKey("allocations")]
    why = allocations.metadata["why"].value
    for line in (
        "| action | restore |",
        f"| items | {item.item_id} |",
        "| rules | fees |",
        "| reason | The audit's \\| own |",
        f"| actor | {os_user()} |",
    ):
        assert line in why
    assert allocations.metadata["changed inputs"].value == "- restored items"
    assert allocations.metadata["dagster/uri"].value == (
        f"file://{workspace.settings.lake}/allocations/month=2024-01/data.parquet"
    )
    assert allocations.metadata["dagster/storage_kind"].value == "parquet"
    assert allocations.metadata["dagster/table_name"].value == "allocations"


def test_partitions_that_an_edit_makes_again_say_which_rule_and_who(month):
    rules = month.settings.config / "allocators"
    for name in ("a", "b"):
        (rules / f"{name}.json").write_text(json.dumps(fee_allocator() | {"id": name, "category": "fee"}))
    workspace = run(Workspace(month.settings), [MONTH])
    (rules / "a.json").write_text(json.dumps(fee_allocator("cost*0.1") | {"id": "a"}))
    edited = Workspace(month.settings)
    edited.registry.note(Actor("maria"), "save_allocator", "a", {})
    event = materialise(edited, MatchedItems(), MONTH)
    assert event.changed == ("allocators/a",)
    (phrase,) = reasons(edited, event.changed)
    assert phrase.startswith("rule a, saved by maria on 2")
    assert event_metadata(edited, event)["changed inputs"].value.startswith("- rule a, saved by maria on 2")
    later = materialise(edited, ResolvedAccounts(), MONTH)
    assert "matched items of 2024-01" in reasons(edited, later.changed) or "rules" in reasons(edited, later.changed)
    assert materialise(workspace, MatchedItems(), MONTH).changed == ("allocators/a",)


def in_a_run(instance: dg.DagsterInstance, events: Iterable[AssetEvent]) -> Iterator[AssetEvent]:
    """Record events in a run of their own; Dagster keeps one result of a check for each run and partition."""
    config = {"ops": {"make_the_months": {"config": {"first": MONTH, "last": MONTH}}}}
    run = RecordedRun(instance, backfill, config, str(uuid4()), (MONTH, MONTH))
    for event in events:
        run.record(event)
        yield event
    run.succeed({})


def test_a_month_without_news_is_recorded_once(month):
    """Regression: an event takes longer to store than all that is done for such a month, and there were 89 of them."""
    unchanged = Materialised("cost_line_items", MONTH, "unchanged", "f", 3, 0.1)

    def recorded(instance: dg.DagsterInstance, event: Materialised) -> set[str]:
        events = in_a_run(instance, asset_events(month, RecordedVersions(instance), event))
        return {one.asset_key.to_user_string() for one in events}

    with dg.DagsterInstance.ephemeral() as instance:
        views = {view.to_user_string() for view in VIEWS}
        # What was never recorded, such as in a new instance, is.
        assert recorded(instance, unchanged) == {*views, "cost_line_items"}
        assert recorded(instance, unchanged) == set()
        assert recorded(instance, replace(unchanged, outcome="published")) == {*views, "cost_line_items"}
        # As after a run of other assets.
        instance.report_runless_asset_event(dg.AssetMaterialization(VIEWS[-1], partition=MONTH))
        assert recorded(instance, unchanged) == {"cost_line_items"}
        assert recorded(instance, replace(unchanged, fingerprint="g")) == {"cost_line_items"}


@pytest.mark.parametrize("month_of_input", ["2023-12", MONTH, "2024-02"])
def test_a_month_is_recorded_again_if_what_it_can_be_made_from_was_recorded_since(month, month_of_input):
    unchanged = Materialised("matched_items", MONTH, "unchanged", "f", 3, 0.1)

    def recorded(instance: dg.DagsterInstance) -> set[str]:
        events = in_a_run(instance, asset_events(month, RecordedVersions(instance), unchanged))
        return {event.asset_key.to_user_string() for event in events if isinstance(event, dg.AssetMaterialization)}

    with dg.DagsterInstance.ephemeral() as instance:
        assert recorded(instance) == {"matched_items"}
        # Other months of it change nothing, and make it one that is not the last.
        instance.report_runless_asset_event(dg.AssetMaterialization("matched_items", partition="2024-03"))
        assert recorded(instance) == set()
        instance.report_runless_asset_event(dg.AssetMaterialization("cost_line_items", partition=month_of_input))
        # Months are made from earlier ones, never from later ones.
        assert recorded(instance) == ({"matched_items"} if month_of_input <= MONTH else set())
        instance.report_runless_asset_event(dg.AssetMaterialization("cost_line_items", partition="2024-03"))
        assert recorded(instance) == set()


def test_results_of_checks_are_recorded_if_they_differ(month, monkeypatch):
    unchanged = Materialised("cost_line_items", MONTH, "unchanged", "f", 3, 0.1)
    results = {"a": (True, "Nothing is wrong."), "b": (True, "Nothing is wrong.")}
    monkeypatch.setattr(
        recording,
        "check_evaluations",
        lambda _, table, month: [
            dg.AssetCheckEvaluation(
                asset_key=dg.AssetKey(table),
                check_name=name,
                passed=passed,
                description=text,
                metadata={},
                partition=month,
            )
            for name, (passed, text) in results.items()
        ],
    )

    def recorded(instance: dg.DagsterInstance) -> list[str]:
        events = in_a_run(instance, asset_events(month, RecordedVersions(instance), unchanged))
        return [event.check_name for event in events if isinstance(event, dg.AssetCheckEvaluation)]

    with dg.DagsterInstance.ephemeral() as instance:
        assert recorded(instance) == ["a", "b"]
        assert recorded(instance) == []
        results["b"] = (False, "1 is wrong.")
        assert recorded(instance) == ["b"]
        # Until it is right again, every run says so.
        assert recorded(instance) == ["b"]
        results["b"] = (True, "Nothing is wrong.")
        assert recorded(instance) == ["b"]
        assert recorded(instance) == []


def test_a_version_is_looked_up_once_until_it_is_recorded_again(month, monkeypatch):
    lookups = []
    with dg.DagsterInstance.ephemeral() as instance:
        look_up = instance.get_latest_data_version_record
        monkeypatch.setattr(
            instance, "get_latest_data_version_record", lambda asset: lookups.append(asset) or look_up(asset)
        )
        versions = RecordedVersions(instance)
        read_by_both = dg.AssetKey("matched_items")

        name = read_by_both.to_user_string()

        def tag_of(table: str) -> str:
            return versions.tags(dg.AssetSpec(table, deps=[read_by_both]), "x")[f"dagster/input_data_version/{name}"]

        assert tag_of("resolved_accounts") == tag_of("allocations")
        assert lookups == [read_by_both]
        made = Materialised(name, MONTH, "unchanged", "the new one", 3, 0.1)
        for one in asset_events(month, versions, made):
            if isinstance(one, dg.AssetMaterialization):
                instance.report_runless_asset_event(one)
        assert tag_of("allocations") == "the new one"
        assert lookups.count(read_by_both) == 2


def test_a_rule_may_be_older_than_the_lake():
    """Regression: a lake that began after the launchpad's example had no definitions at all."""
    document = fee_allocator() | {"startMonth": "2010-07"}
    dg.validate_run_config(simulate_allocator, {"ops": {"simulate": {"config": {"allocator": document}}}})
