"""Training: module base, exact resume, callbacks."""
