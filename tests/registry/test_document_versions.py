"""The versions of documents: what was saved by whom, and what came with the configuration."""

from octo_pipeline.registry.records import Actor, DocumentVersion
from octo_pipeline.registry.store import Registry


def version(digest: str, document_id: str = "support") -> DocumentVersion:
    return DocumentVersion("allocator", document_id, digest, f'{{"id":"{document_id}","name":"{digest}"}}')


def known(registry: Registry, document_id: str = "support") -> list[tuple[str, str | None]]:
    return [(v.version, v.saved_by) for v in registry.documents.of("allocator", document_id)]


def test_what_is_saved_and_what_is_seen_is_kept_in_order(registry: Registry) -> None:
    documents, ana = registry.documents, Actor("ana")
    documents.see([version("v0")])
    assert known(registry) == []  # without a registry nothing is recorded, and none is made
    documents.save([version("v1")], ana, "save_allocator", "support", {"version": "v1"})
    documents.see([version("v1"), version("w1", "other")])
    documents.see([version("v2")])
    documents.see([version("v2")])
    # A text that comes back is another change.
    documents.save([version("v1")], ana, "save_allocator", "support", {})
    assert known(registry) == [("v1", "ana"), ("v2", None), ("v1", "ana")]
    assert known(registry, "other") == [("w1", None)]
    assert registry.documents.of("cost_group", "support") == []
    assert [event.action for event in registry.audit()] == ["save_allocator", "save_allocator"]


def test_a_document_with_any_text_is_kept_as_it_is(registry: Registry) -> None:
    text = '{"name":"<script>\\u202e\u202e\\u001b[31m"}' + "x" * 65536
    registry.documents.save([DocumentVersion("cost_group", "a'b", "v1", text)], Actor("ana"), "save", "a'b", {})
    (kept,) = registry.documents.of("cost_group", "a'b")
    assert kept.document == text
