"""Learning: samples under consent, triggers, training runs, champion against challenger."""
