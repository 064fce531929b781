"""The proof before publication: how a claim about a staged table is proved.

A proof shares no code with what makes the rows. A proof that fails raises, and nothing is published. The claims about a
table belong in the table's file; what merely deserves attention is a check, not a proof.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import duckdb

from octo_pipeline.model.errors import OctoError
from octo_pipeline.model.templates import render
from octo_pipeline.model.wording import counted


class ProofError(OctoError):
    """An amount was not conserved. This is a defect of the program or of its input, never of the user."""

    def __init__(self, message: str) -> None:
        super().__init__(message, code="proof-failed")


@dataclass(frozen=True)
class Proof:
    """A claim about a table, and the query that proves it.

    Attributes:
        name: a few words, unique in its table.
        claim: what holds, as the words after "proof that".
        sql: the template of a query with one row per violation, whose column ``detail`` describes it.
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
        month: its month, also a variable of the templates.
        proofs: the table's proofs.
        remedy: a sentence about what helps if a proof fails.
        pieces: the relations that the templates name; ``staged`` is the staged table.

    Raises:
        ProofError: a claim does not hold; the message has the number of violations and the first one.
    """
    for proof in proofs:
        violations = render(proof.sql, month=month, **pieces)
        row = connection.execute(render("allocation/violations", violations=violations)).fetchone()
        if row and row[0]:
            message = f"{table} {month} fails its proof that {proof.claim}: {counted(row[0], 'violation')}, the first: {row[1]}."
            raise ProofError(f"{message} {remedy}".rstrip())
