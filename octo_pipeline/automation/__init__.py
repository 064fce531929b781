"""Jobs, schedules and sensors: when the assets run."""
