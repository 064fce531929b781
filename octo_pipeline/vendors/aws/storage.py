"""The files of an S3 bucket as a listing, for the exports of any vendor in it."""

from functools import partial

from octo_pipeline.vendors.aws.client import AwsAccess, Bucket
from octo_pipeline.vendors.bucket import StoredObject
from octo_pipeline.vendors.downloads import SourceFile
from octo_pipeline.vendors.listing import ListedFile, Place, is_hidden


class BucketFiles:
    """The objects below a prefix of a bucket.

    Args:
        address: the bucket, and the role with which it is read.
        name: the source's name, for messages.
    """

    def __init__(self, address: Place, name: str) -> None:
        bucket, self._prefix = address.bucket_and_prefix
        self._bucket = Bucket(bucket, AwsAccess(name, address.role_arn, address.external_id, address.region))

    @property
    def place(self) -> str:
        """The bucket with the prefix."""
        return self._bucket.url(self._prefix)

    def files(self) -> list[ListedFile]:
        """Its objects by name.

        Raises:
            OctoError: the bucket does not exist or refuses.
        """
        objects: list[StoredObject] = []
        # The loop appends the subfolders of each folder, so it visits all of them.
        folders = [self._prefix]
        for folder in folders:
            below, inside = self._bucket.folder(folder)
            folders += below
            objects += inside
        return sorted(
            (
                self._listed(stored)
                for stored in objects
                if stored.size and not is_hidden(self._name(stored).split("/"))
            ),
            key=lambda listed: listed.name,
        )

    def _name(self, stored: StoredObject) -> str:
        return stored.key.removeprefix(self._prefix)

    def _listed(self, stored: StoredObject) -> ListedFile:
        file = SourceFile(
            stored.key.rsplit("/", 1)[-1],
            partial(self._bucket.open, stored),
            stored.size,
            open_at=partial(self._bucket.open, stored),
            etag=stored.etag,
            digest_parts=partial(self._bucket.digest_parts, stored),
        )
        return ListedFile(self._name(stored), stored.etag, stored.modified.isoformat(), file)
