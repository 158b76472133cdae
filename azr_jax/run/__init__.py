"""The life of a run: from a checked config to the last checkpoint. Knows all rooms; no room knows it."""
