"""``edgewise-agent ...``: one file a subcommand, with ``add`` (its arguments) and ``run``."""
