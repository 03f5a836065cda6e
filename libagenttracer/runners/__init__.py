"""Sources of events: each loads and attaches what it needs, and turns ring records into events."""
