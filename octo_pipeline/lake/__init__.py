"""The lake: partitions published whole, their metadata, staging, and the stores (folder, bucket) below."""
