"""All proofs of what leaves the lake, by what they prove."""

from collections.abc import Mapping

from octo_pipeline.allocation.proofs import Proof
from octo_pipeline.outputs import journal, statements
from octo_pipeline.outputs.focus import month_charges

PROOFS: Mapping[str, tuple[Proof, ...]] = {
    "focus_export": month_charges.PROOFS,
    "journal": journal.PROOFS,
    "statements": statements.PROOFS,
}
