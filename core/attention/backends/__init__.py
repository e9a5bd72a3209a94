"""Ways to compute attention over a plan. `attend` chooses one; each refuses what it can't do."""
