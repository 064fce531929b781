"""Google Cloud: BigQuery billing exports, registration, sample."""
