"""Models, providers, and how one is found and chosen."""
