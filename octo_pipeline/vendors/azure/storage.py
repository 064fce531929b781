"""The files of an Azure container as a listing, for the exports of any vendor in it."""

from collections.abc import Mapping, Sequence

from octo_pipeline.vendors.azure.azure_http import STORAGE_DOMAINS, Http
from octo_pipeline.vendors.azure.blobs import ContainerListing, Entry
from octo_pipeline.vendors.azure.client import new_session
from octo_pipeline.vendors.downloads import SourceFile
from octo_pipeline.vendors.listing import ListedFile, Place, is_hidden
from octo_pipeline.vendors.outbound import Reach, source_secret


class ContainerFiles:
    """The blobs below a prefix of a container.

    Args:
        address: the container's address and the name of the variable with its SAS.
        environment: the environment variables, with the SAS.
        allowed_hosts: hosts that it may name besides those of Azure's storage.

    Raises:
        OctoError: the host or the variable is not allowed, or the SAS is not set.
    """

    def __init__(self, address: Place, environment: Mapping[str, str], allowed_hosts: Sequence[str]) -> None:
        container = address.container or ""
        reach = Reach(STORAGE_DOMAINS, allowed_hosts)
        reach.require(container)
        sas = source_secret(environment, address.sas_variable or "", "sas_variable", container)
        self._prefix = f"{address.prefix.strip('/')}/" if address.prefix else ""
        self._blobs = ContainerListing(Http(new_session(), reach=reach), container, lambda: sas, prefix=self._prefix)

    @property
    def place(self) -> str:
        """The container's address with the prefix."""
        return self._blobs.place

    def files(self) -> list[ListedFile]:
        """Its blobs by name.

        Raises:
            OctoError: the container cannot be reached, or the SAS does not allow listing it.
        """
        listed = [self._listed(entry) for entry in self._blobs.entries() if entry.size]
        return [file for file in listed if not is_hidden(file.name.split("/"))]

    def _listed(self, entry: Entry) -> ListedFile:
        file = SourceFile(entry.name.split("/")[-1], entry.open, entry.size, md5=entry.md5)
        return ListedFile(entry.name.removeprefix(self._prefix), entry.version, "", file)
