"""Amazon Web Services: Cost and Usage Reports, registration, sample."""
