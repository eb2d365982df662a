"""One vendor per module. Each imports its vendor on first use, never on import."""
