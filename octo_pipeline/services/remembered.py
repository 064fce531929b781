"""What a server has computed already, as long as nothing that it was computed from has changed.

Pages are looked at much more often than months are made. What they show depends on the partitions of the lake, the documents
of the configuration, the registry and, for what is late, the time of day; if these are as they were, so is the answer. Deliveries
count once a month was made with them.
"""

from collections import OrderedDict
from collections.abc import Callable, Hashable
from datetime import UTC, datetime
from threading import Lock
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from octo_pipeline.lake.lake import fingerprint
from octo_pipeline.tables.graph import TABLES
from octo_pipeline.tables.limited import LimitedWorkspace
from octo_pipeline.workspace import Workspace

T = TypeVar("T")

_MOST = 256
_lock = Lock()
# A workspace reads documents and states once, so what is computed from it is of one state.
_states: WeakKeyDictionary[Workspace, str] = WeakKeyDictionary()
_answers: OrderedDict[Hashable, Any] = OrderedDict()


def remembered(workspace: Workspace, name: str, month: str, compute: Callable[[], T]) -> T:
    """What `compute` returns, which is called if it was not yet or something has changed since.

    Args:
        workspace: what it is computed from.
        name: what is computed.
        month: of which month.
        compute: computes it; it reads nothing but this workspace, and nobody changes what it returns.
    """
    whole, groups = workspace, tuple[str, ...]()
    if isinstance(workspace, LimitedWorkspace):
        whole, groups = workspace.whole, workspace.groups
    if whole not in _states:
        _states[whole] = state_of_all(whole)
    key = (_states[whole], groups, name, month)
    with _lock:
        if key in _answers:
            _answers.move_to_end(key)
            return _answers[key]  # type: ignore[no-any-return]
    answer = compute()
    with _lock:
        _answers[key] = answer
        while len(_answers) > _MOST:
            _answers.popitem(last=False)
    return answer


def state_of_all(workspace: Workspace) -> str:
    """A digest that differs if a partition, a document or the registry has changed, or another hour has begun."""
    settings = workspace.settings
    files = sorted(path for path in settings.config.rglob("*") if path.is_file())
    documents = {str(path): (status.st_mtime_ns, status.st_size) for path in files if (status := path.stat())}
    events = workspace.registry.audit(1) if settings.has_registry else []
    return fingerprint(
        {
            "settings": repr(settings),
            "lake": repr(workspace.lake.identities([table.name for table in TABLES])),
            "documents": repr(documents),
            "registry": repr(events),
            "hour": f"{datetime.now(UTC):%Y-%m-%d %H}",
        }
    )
