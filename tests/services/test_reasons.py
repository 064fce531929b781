"""Why a partition is made again, in words."""

from octo_pipeline.registry.records import Actor
from octo_pipeline.services.reasons import reasons


def test_who_changed_a_rule_or_a_cost_group_here_is_named(workspace):
    for action, subject in (("save_cost_group", "shop"), ("save_allocator", "shop"), ("remove_cost_group", "gone")):
        workspace.registry.note(Actor("ana"), action, subject, {})
    phrases = reasons(workspace, ["cost_groups/shop", "cost_groups/gone", "cost_groups/other", "landing"])
    assert [phrase.partition(" on ")[0] for phrase in phrases] == [
        "cost group shop, saved by ana",
        "cost group gone, removed by ana",
        "cost group other",
        "the delivered bills",
    ]
