"""Raw logs to batches: everything before the model."""
