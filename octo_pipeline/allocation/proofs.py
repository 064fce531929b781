"""The proof before publish: how a claim on a staged table is proved.

A proof shares no code with the making of what it proves. A proof that fails raises, and nothing is published. What is
proved of a table is in the table's file; what merely deserves attention is a check, not a proof.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.templates import render


class ProofError(OctoError):
    """An amount was not conserved. This is a defect of the program or of its input, never of the user."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="proof-failed")


@dataclass(frozen=True)
class Proof:
    """What must hold of a table.

    Attributes:
        name: a few words, unique in its table.
        claim: what holds, as it stands after "proof that".
        sql: the template of a query with one row per violation, whose text ``detail`` shows it.
    """

    name: str
    claim: str
    sql: str


def prove(
    connection: duckdb.DuckDBPyConnection,
    table: str,
    month: str,
    proofs: Iterable[Proof],
    *,
    remedy: str = "",
    **pieces: object,
) -> None:
    """Prove the claims one by one.

    Args:
        connection: where the relations can be read.
        table: the name of the staged table, for the message.
        month: its month, which the templates know too.
        proofs: of the table.
        remedy: a sentence about what helps if a proof fails.
        pieces: the relations that the templates name; ``staged`` is the table as it is written.

    Raises:
        ProofError: a claim does not hold; with the number of violations and the first.
    """
    for proof in proofs:
        violations = render(proof.sql, month=month, **pieces)
        row = connection.execute(f"select count(*), min(detail) from ({violations})").fetchone()
        if row and row[0]:
            count = f"{row[0]} violation{'s' if row[0] > 1 else ''}"
            message = f"{table} {month} fails its proof that {proof.claim}: {count}, the first: {row[1]}."
            raise ProofError(f"{message} {remedy}".rstrip())
