"""Models, versions with their lineage, recipes, and the bundles compiled from them."""
