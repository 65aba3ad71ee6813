"""The compiler: a model and device profiles in, bundles out."""
