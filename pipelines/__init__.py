"""The commands: train, evaluate, score, simulate, schedule. Thin, blind to what a domain means."""
