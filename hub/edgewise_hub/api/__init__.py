"""The web API: one file a resource."""
