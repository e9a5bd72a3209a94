"""Learned numbers of runs of bases."""

from __future__ import annotations

import torch

from domains.genomics.kmer_table import KmerTables


def test_a_sequence_is_the_sum_of_its_runs_and_the_same_on_the_other_strand() -> None:
    tables = KmerTables([2])
    torch.nn.init.normal_(tables.tables[0].weight)
    base = torch.tensor([[0, 1, 2, 4, 3, 3, 0, 4]])
    real = torch.tensor([[True] * 7 + [False]])
    number = tables.tables[0].weight[:, 0]
    # AC and TT as such; CG is its own other strand; TA too; runs with N or padding count nothing.
    naive = number[0 * 4 + 1] + number[1 * 4 + 2] + number[0] + number[3 * 4]
    torch.testing.assert_close(tables(base, real)[0], naive)
    other = torch.tensor([[3, 0, 0, 4, 1, 2, 3, 4]])
    torch.testing.assert_close(tables(other, real), tables(base, real))
