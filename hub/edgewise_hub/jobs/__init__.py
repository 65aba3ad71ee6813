"""Jobs: durable rows with leases, worked by local processes."""
