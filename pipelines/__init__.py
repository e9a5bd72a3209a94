"""The commands: train, evaluate, score, simulate. Thin, and blind to what a domain means."""
