"""Several processes: a sweep's runs, or one run's batches."""
