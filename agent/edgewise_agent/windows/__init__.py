"""What the device reports: collectors in the serve child, spools and the sample budget in the supervisor."""
