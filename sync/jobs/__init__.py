"""When a sync happens."""
