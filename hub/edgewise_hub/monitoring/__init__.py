"""Windows in, evidence and alerts out."""
