"""Two versions of a model compared on the fleet: who takes part, what is measured, and when enough is known."""
