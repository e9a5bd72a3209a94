"""The task mlm: no base sees itself, both strands agree, and what is learned from and judged."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from core.errors import ConfigError
from domains.genomics import domain
from domains.genomics.base_table import BELIEF, BaseTable
from domains.genomics.config import GenomicsConfig
from domains.genomics.contig import encode
from domains.genomics.data_config import GenomicsData, SplitConfig
from domains.genomics.genome_source import GenomeSource
from domains.genomics.homology import KnownSequence
from domains.genomics.masked import MaskedTask
from domains.genomics.masked_config import MaskedConfig
from domains.genomics.masked_model import MaskedModule
from domains.genomics.masked_window import MaskedWindows, stack_bases
from domains.genomics.strand_reader import complement
from domains.genomics.stretch import judged, runs_of
from domains.genomics.tile import score_positions


def _config(fasta: Path, **masked: Any) -> GenomicsConfig:
    data = GenomicsData(source="files", fasta=str(fasta), split=SplitConfig(folds=2))
    told = MaskedConfig(**masked)
    return GenomicsConfig(
        task="mlm", reader="strands", data=data, window=64, batch_size=3, masked=told
    )


@pytest.fixture(scope="module")
def fasta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a (5,000 bases, the second hundred in lower case), b (700), c (40, shorter than a window)."""
    draw = np.random.default_rng(0)
    text = ""
    for name, length in (("a", 5000), ("b", 700), ("c", 40)):
        bases = "".join(draw.choice(list("ACGT"), length))
        text += f">{name}\n{bases[:100]}{bases[100:200].lower()}{bases[200:]}\n"
    path = tmp_path_factory.mktemp("genome") / "genome.fa"
    path.write_text(text)
    return path


@pytest.fixture
def module(encoder: Any) -> MaskedModule:
    torch.manual_seed(0)
    return MaskedModule(encoder).eval()


def test_a_base_does_not_change_what_is_expected_at_its_own_place(module: MaskedModule) -> None:
    torch.manual_seed(1)
    base = torch.randint(0, 5, (1, 63))
    reach = module.reach()
    assert reach is not None
    for place in (0, 1, 31, 62):
        other = base.clone()
        other[0, place] = (other[0, place] + 1) % 5
        change = (module.each({"base": base}) - module.each({"base": other}))[0, 0].abs().amax(-1)
        assert change[place] == 0
        changed = change.nonzero().flatten() - place
        beyond = max(place, 62 - place) > reach
        assert changed.abs().max() == (reach if beyond else max(place, 62 - place))
        assert (changed == -1).any() == (place > 0) and (changed == 1).any() == (place < 62)


def test_no_gradient_of_an_expectation_reaches_its_own_base(module: MaskedModule) -> None:
    taken: list[torch.Tensor] = []
    module.reader.kmer.register_forward_hook(lambda *told: taken.append(told[2]))
    odds = module({"base": torch.randint(0, 4, (1, 40))})
    slope = torch.autograd.grad(odds[0, 20].sum(), taken[0])[0]
    forth, back = slope.abs().sum(-1)
    # Token j holds bases up to j of its strand; base 20 is 19 on the other one.
    assert forth[:20].sum() > 0 and forth[20:].sum() == 0
    assert back[:19].sum() > 0 and back[19:].sum() == 0


@pytest.mark.parametrize("length", [1, 2, 40, 63])
def test_the_other_strand_expects_the_complement(module: MaskedModule, length: int) -> None:
    torch.manual_seed(1)
    base = torch.randint(0, 5, (2, length))
    real = torch.arange(70) < length
    padded = torch.full((2, 70), 4)
    padded[:, :length] = base
    given = module.each({"base": padded, "real": real.expand(2, -1)})[0, :, :length]
    other = module.each({"base": complement(base).flip(1)})[0]
    torch.testing.assert_close(given, other.flip(1, 2), atol=1e-5, rtol=0)


def test_expectations_do_not_depend_on_the_tiles(module: MaskedModule, fasta: Path) -> None:
    reference = domain.open(_config(fasta), "train").reference
    length = len(reference.sequence("b"))
    whole = score_positions(module, reference, "b", np.arange(length), 700, stack_bases)
    tiled = score_positions(module, reference, "b", np.arange(length), 64, stack_bases)
    some = score_positions(module, reference, "b", np.array([3, 350]), 64, stack_bases)
    np.testing.assert_allclose(whole, tiled, atol=1e-5)
    np.testing.assert_allclose(whole[[3, 350]], some, atol=1e-5)


def test_an_epoch_passes_over_every_base_and_none_else(fasta: Path) -> None:
    genome = domain.open(_config(fasta), "train").reference.genome
    source = GenomeSource(_config(fasta))
    runs = runs_of(source.stretches)
    assert runs == [("a", 0, 5000), ("b", 0, 700), ("c", 0, 40)]
    windows = MaskedWindows(genome, runs, 64, 3, 0.1, seed=0)
    again = MaskedWindows(genome, runs, 64, 3, 0.1, seed=0)
    seen = {name: np.zeros(len(genome.contigs[name]), dtype=int) for name in "abc"}
    text = {name: bytes(genome.contigs[name]) for name in "abc"}
    for step in range(windows.per_epoch // 3 + 1):
        batch = windows.batch_at(step)
        assert torch.equal(batch["base"], again.batch_at(step)["base"])
        for i, row in enumerate(batch["base"].numpy()):
            n = int(batch["real"][i].sum()) if "real" in batch else 64
            assert n == 64 or n == 40
            name = next(name for name in "abc" if bytes(row[:n]) in text[name])
            start = text[name].index(bytes(row[:n]))
            lower = genome.soft_masked(name)[start : start + n]
            np.testing.assert_allclose(batch["weight"][i][:n], np.where(lower, 0.1, 1.0))
            seen[name][start : start + n] += 1
    assert all(times.min() >= 1 for times in seen.values())
    assert seen["a"].mean() < 1.1


def test_a_soft_masked_base_weighs_what_is_said(module: MaskedModule) -> None:
    base = torch.randint(0, 5, (2, 30))
    weight = torch.rand(2, 30)
    each = -module.each({"base": base})[0].gather(-1, base.clamp_max(3)[..., None])[..., 0]
    counted = weight * (base < 4)
    expected = (each * counted).sum() / counted.sum()
    torch.testing.assert_close(module.loss({"base": base, "weight": weight}), expected)
    assert not torch.isclose(module.loss({"base": base}), expected, atol=1e-3)


def test_what_is_held_out_is_never_learned_from(fasta: Path) -> None:
    config = _config(fasta, test=["b"], leave_out=["c"])
    source, task = GenomeSource(config), MaskedTask(config)
    (fold,) = task.folds(source)
    assert set(source.select(fold.train)["chrom"]) == {"a"}
    assert set(source.select(fold.test)["chrom"]) == {"b"}
    assert task.label_intervals(source, fold) == ["sequence a:0-5000"]
    seen = task.seen_rows(source, task.label_intervals(source, fold))
    assert seen.to_list() == fold.train.to_list()


def test_an_unknown_contig_is_named(fasta: Path) -> None:
    with pytest.raises(ConfigError, match=r"masked.test: found 'XV'.* it has a, b, c"):
        GenomeSource(_config(fasta, test=["XV"]))


def test_a_window_reader_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"domain\.reader: found window"):
        GenomicsConfig(task="mlm")


def test_figures_are_those_of_a_naive_sum(fasta: Path) -> None:
    config = _config(fasta, test=["b"])
    source, task = GenomeSource(config), MaskedTask(config)
    genome = source.reference.genome

    def expected(contig: str, at: np.ndarray) -> np.ndarray:
        level = np.log(np.array([0.4, 0.3, 0.2, 0.1]))
        return np.tile(level, (len(at), 1)).astype(np.float32)

    found = judged(genome, source.stretches, expected, source.parts(source.stretches))
    metrics = {m.metric: m.value for m in task.metrics(source, found)}
    bases = np.concatenate([genome.contigs[name] for name in "abc"])
    lower = np.concatenate([genome.soft_masked(name) for name in "abc"])
    bits = -np.log2(np.array([0.4, 0.3, 0.2, 0.1]))[bases]
    assert metrics["bits_per_base"] == pytest.approx(bits.mean(), rel=1e-6)
    assert metrics["bits_per_base_not_masked"] == pytest.approx(bits[~lower].mean(), rel=1e-6)
    assert metrics["accuracy"] == pytest.approx((bases == 0).mean())
    assert found["row"].to_list() == sorted(found["row"].to_list())


def test_sequence_that_is_there_twice_is_told_apart(tmp_path: Path) -> None:
    draw = np.random.default_rng(1)
    own, learned = (draw.integers(0, 4, 200).astype(np.uint8) for _ in range(2))
    own[60:100] = 3 - learned[100:140][::-1]
    own[150:180] = learned[20:50]  # 30 bases, one too few
    covered = KnownSequence([learned]).covers(own)
    edges = covered.nonzero()[0]
    # Neighbours may agree by chance.
    assert edges.min() in range(57, 61) and edges.max() in range(99, 103)
    assert covered[60:100].all()
    assert not KnownSequence([]).covers(own).any()
    text = "".join("ACGT"[b] for b in own)
    (tmp_path / "g.fa").write_text(f">a\n{text}\n>b\n{text[60:100]}{text[:20]}\n")
    source = GenomeSource(_config(tmp_path / "g.fa", test=["b"]))
    test = source.stretches.filter(pl.col("chrom") == "b")
    assert source.parts(test)["not_shared"]("b").nonzero()[0].tolist() == [*range(40, 60)]
    assert "not_shared" not in source.parts(source.stretches)


def test_noise_hides_bases_in_training_only(encoder: Any) -> None:
    torch.manual_seed(0)
    module = MaskedModule(encoder, noise=0.5)
    base = {"base": torch.randint(0, 4, (2, 50))}
    assert not torch.equal(module(base), module(base))
    module.eval()
    assert torch.equal(module(base), module(base))


def test_a_table_counts_both_strands_on_top_of_shorter_contexts() -> None:
    table = BaseTable.count([encode("AACNA")], (-1, 1))
    # Plus strand: A between nothing and A, then A A C; minus, TNGTT: G T T.
    alone = (np.array([3, 1, 1, 3]) + BELIEF / 4) / (8 + BELIEF)
    between = np.tile(alone, (16, 1)) * BELIEF
    between[0 * 4 + 1, 0] += 1
    between[2 * 4 + 3, 3] += 1
    between /= between.sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(table.levels), between, rtol=1e-5)
    level = table.expected(encode("AACNA"), np.arange(5))
    np.testing.assert_allclose(np.exp(level[[0, 2, 4]]), 0.25)
    np.testing.assert_allclose(np.exp(level[1]), between[1], rtol=1e-5)


def test_a_run_learns_what_repeats(tmp_path: Path, encoder: Any) -> None:
    """Bases that follow from those around them are expected in contigs that were held out."""
    from core.training.fit import FitConfig, fit
    from core.training.lightning import OptimConfig

    (tmp_path / "g.fa").write_text(">a\n" + "ACGGT" * 400 + "\n>b\n" + "ACGGT" * 100 + "\n")
    config = _config(tmp_path / "g.fa", test=["b"])
    source, task = GenomeSource(config), MaskedTask(config)
    (fold,) = task.folds(source)
    tokenizer = task.fit_tokenizer(source, fold.train)
    torch.manual_seed(0)
    module = task.module(tokenizer, encoder)
    loader = task.loader(source, tokenizer, fold.train, 0, 40)
    fitting = FitConfig(steps=40, accelerator="cpu")
    module = fit(module, loader, OptimConfig(lr=1e-2), fitting, tmp_path / "fit", 0)
    found = task.predict(module, source, tokenizer, fold.test)  # type: ignore[arg-type]
    assert {m.metric: m.value for m in task.metrics(source, found)}["bits_per_base"] < 0.3
    floors = task.floors(source, fold, encoder)
    assert set(floors) == {"markov_3", "table_5_5"}
    assert all(isinstance(frame, pl.DataFrame) for frame in floors.values())
