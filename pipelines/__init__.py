"""The commands: train, evaluate, score, simulate, schedule. Thin, blind to what a domain means."""

import os

# Threads of GNU OpenMP that wait for each other spin for milliseconds, on a processor that the
# other may need: beside other work a training of a small model is 2 to 10 times slower so. It is
# read when torch is loaded.
if "OMP_WAIT_POLICY" not in os.environ:
    os.environ.setdefault("GOMP_SPINCOUNT", "10000")
