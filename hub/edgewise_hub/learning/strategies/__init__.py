"""Learning strategies: one file each."""
