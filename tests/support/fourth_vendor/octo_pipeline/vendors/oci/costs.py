"""OCI's costs: files ``<tenancy>-<YYYY-MM>.csv`` of a folder, landed and read as a relation."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Literal

import duckdb
from pydantic import BaseModel

from octo_pipeline.lake.store import Location
from octo_pipeline.model.errors import OctoError
from octo_pipeline.vendors.data_files import count_csv_rows, path_literals
from octo_pipeline.vendors.downloads import SourceFile
from octo_pipeline.vendors.landing import Delivery, Landed, damage, first_refusal, land, land_each
from octo_pipeline.vendors.source import Available

_COLUMNS = (
    "{'tenancy': 'VARCHAR', 'day': 'DATE', 'service': 'VARCHAR', 'cost': 'DECIMAL(38,10)', 'currency': 'VARCHAR'}"
)


class OciDocument(BaseModel):
    """A folder of costs."""

    vendor: Literal["oci"]
    folder: Path


@dataclass(frozen=True)
class OciFolderSource:
    """The months in a folder."""

    folder: Path

    vendor = "oci"
    account = None

    @property
    def name(self) -> str:
        """What sentences and sensors call it."""
        return f"oci at {self.folder}"

    def available(self, month: str) -> list[Available]:
        """The version of each tenancy's month."""
        return [Available("oci", _tenancy(file, month), month, "costs", _version(file)) for file in self._files(month)]

    def land(self, root: Location, month: str, fetched_at: datetime) -> list[Landed]:
        """Land each tenancy's month."""
        return land_each(self._files(month), lambda file: _land(root, file, month, fetched_at))

    def _files(self, month: str) -> list[Path]:
        return sorted(self.folder.glob(f"*-{month}.csv"))


def relations(con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> dict[str, str]:
    """The relation that dbt reads."""
    for delivery in deliveries:
        if sentence := damage(delivery):
            raise OctoError(sentence, code="delivery-damaged")
    paths = [path for delivery in deliveries for path in delivery.file_paths]
    if not paths:
        return {
            "oci_costs": "SELECT '' AS tenancy, DATE '2000-01-01' AS day, '' AS service, 0::DECIMAL(38,10) AS cost, "
            "'' AS currency WHERE false"
        }
    return {
        "oci_costs": f"SELECT * FROM read_csv({path_literals(paths)}, columns = {_COLUMNS}, header = true, "
        "auto_detect = false, hive_partitioning = false)"
    }


def source_costs(relations: Mapping[str, str]) -> str:
    """SQL of what the files say was billed."""
    return (
        "SELECT 'oci' AS vendor, tenancy AS billing_account_id, currency AS billing_currency, cost "
        f"FROM ({relations['oci_costs']})"
    )


def explain_failure(con: duckdb.DuckDBPyConnection, deliveries: Sequence[Delivery]) -> OctoError | None:
    """The first file that is not right."""
    return first_refusal(deliveries, lambda delivery: [count_csv_rows(path, str(path)) for path in delivery.file_paths])


def _land(root: Location, file: Path, month: str, fetched_at: datetime) -> Landed:
    return land(
        root,
        vendor="oci",
        account=_tenancy(file, month),
        month=month,
        version=_version(file),
        format="csv",
        report="costs",
        source=str(file),
        files=[SourceFile(file.name, lambda: file.open("rb"))],
        fetched_at=fetched_at,
    )


def _tenancy(file: Path, month: str) -> str:
    return file.name.removesuffix(f"-{month}.csv")


def _version(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()[:16]
