"""Microsoft Azure: partner exports, Cost Management exports, registration, sample."""
