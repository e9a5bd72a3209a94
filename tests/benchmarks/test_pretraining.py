"""Zero-shot scores of the benchmark are those of the bundle's network, site by site."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks import pretraining
from benchmarks.natural_tuned import CALIBRATED, _fold
from benchmarks.pretraining import VARIANTS, _cost, zero_shot
from core.attention import Window
from core.bundle import Bundle, load_bundle, write_bundle
from core.calibration import Calibration
from core.errors import ConfigError
from core.model.encoder import EncoderConfig
from domains.genomics.config import GenomicsConfig
from domains.genomics.contig import encode
from domains.genomics.data_config import GenomicsData
from domains.genomics.masked_config import MaskedConfig
from domains.genomics.masked_model import MaskedModule
from pipelines.train import plain

BASES = "".join(np.random.default_rng(0).choice(list("ACGT"), 300))


def _bundle(
    folder: Path, config: GenomicsConfig, module: MaskedModule, encoder: EncoderConfig
) -> Any:
    write_bundle(
        folder / "bundle",
        manifest={
            "domain": "genomics",
            "task": config.task,
            "created": "2026-01-01T00:00:00",
            "fingerprint": "",
            "label_intervals": [],
            "config": plain(config),
        },
        encoder=encoder,
        weights=module.state_dict(),
        tokenizer={"bases": "ACGTN"},
        calibration=Calibration("identity"),
        metrics=[],
        reference=[],
        model_card="",
    )
    return load_bundle(folder / "bundle")


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Contig a to learn from, b held out: its first 100 bases are in a too."""
    (tmp_path / "g.fa").write_text(f">a\n{BASES[:100]}{BASES[200:]}\n>b\n{BASES[:200]}\n")
    rows = [("a", 5, 1), *(("b", p, p % 2) for p in (3, 50, 150, 151))]
    lines = ["chrom\tpos\tref\talt\tobserved\tconsequence"]
    for chrom, pos, observed in rows:
        alt = "A" if BASES[pos - 1] != "A" else "C"
        lines.append(f"{chrom}\t{pos}\t{BASES[pos - 1]}\t{alt}\t{observed}\tmissense")
    (tmp_path / VARIANTS).write_text("\n".join(lines) + "\n")
    return tmp_path


def test_scores_are_ratios_at_the_sites(files: Path) -> None:
    data = GenomicsData(source="files", fasta=str(files / "g.fa"))
    masked = MaskedConfig(test=["b"])
    config = GenomicsConfig(task="mlm", reader="strands", data=data, window=64, masked=masked)
    encoder = EncoderConfig(dim=16, layers=1, heads=2, pattern=Window(8))
    torch.manual_seed(0)
    module = MaskedModule(encoder).eval()
    natural, score = zero_shot(_bundle(files, config, module, encoder))
    base = torch.from_numpy(encode(BASES[:200]).astype(np.int64))
    level = module.each({"base": base[None]})[0, 0].detach().numpy()
    rows = natural.rows
    naive = [level[p, a] - level[p, r] for p, r, a in rows.select("pos", "ref", "alt").iter_rows()]
    np.testing.assert_allclose(score, naive, atol=1e-5)
    assert rows["shared"].to_list() == [True, True, False, False]
    assert rows["row"].to_list() == [1, 2, 3, 4]
    # 151 and 3 were seen; within 200 bases each is the other's only neighbour of that kind.
    assert natural.floors["snv_density"].tolist() == [1, 2, 2, 1]
    assert natural.gains["snv_density"].tolist() == [1 - (2 - 1)] * 2


def test_a_bundle_of_effects_is_refused(files: Path) -> None:
    data = GenomicsData(
        source="files", fasta=str(files / "g.fa"), variants=str(files / VARIANTS), label="observed"
    )
    (files / VARIANTS).rename(files / "v.tsv")
    data.variants = str(files / "v.tsv")
    encoder = EncoderConfig(dim=16, layers=1, heads=2, pattern=Window(8))
    bundle = _bundle(files, GenomicsConfig(data=data), MaskedModule(encoder), encoder)
    with pytest.raises(ConfigError, match="found task effect"):
        zero_shot(bundle)


def test_held_out_contigs_are_neither_learned_from_nor_calibrated_on() -> None:
    import polars as pl

    names = ["I", CALIBRATED, "XV", "XVI", "II"]
    fold = _fold(pl.DataFrame({"row": range(5), "chrom": names}), {"XV", "XVI"})
    assert [s.to_list() for s in (fold.train, fold.validation, fold.test)] == [[0, 4], [1], [2, 3]]


def test_what_a_run_cost_is_read_from_what_it_left(files: Path) -> None:
    data = GenomicsData(source="files", fasta=str(files / "g.fa"))
    config = GenomicsConfig(task="mlm", reader="strands", data=data, window=64, batch_size=4)
    encoder = EncoderConfig(dim=16, layers=1, heads=2, pattern=Window(8))
    _bundle(files, config, MaskedModule(encoder), encoder)
    log = "2026-01-01T00:00:00Z INFO longstrand: train done, fold=held_out, rows=3, seconds=2.5\n"
    (files / "train.log").write_text(log)
    (files / "checkpoints/held_out").mkdir(parents=True)
    torch.save({"global_step": 10}, files / "checkpoints/held_out/last.ckpt")
    assert _cost(files) == {"seconds_train": 2.5, "per_second": 10 * 64 * 4 / 2.5}


def test_a_run_of_its_own_is_there_until_all_is_measured(
    files: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = GenomicsData(source="files", fasta=str(files / "g.fa"))
    masked = MaskedConfig(test=["b"])
    config = GenomicsConfig(task="mlm", reader="strands", data=data, window=64, masked=masked)
    encoder = EncoderConfig(dim=16, layers=1, heads=2, pattern=Window(8))

    def trained(settings: pretraining.Settings, runs: Path) -> Path:
        return _bundle(runs, config, MaskedModule(encoder), encoder).path

    def tuned(rows: Any, bundle: Bundle, *_: object) -> np.ndarray:
        assert bundle.state_dict()
        return np.zeros(len(rows))

    monkeypatch.setattr(pretraining, "trained", trained)
    monkeypatch.setattr(pretraining, "tuned", tuned)
    pretraining.benchmark(pretraining.Settings(threads=1, tuned=1, out=str(tmp_path)))
    rows = json.loads((tmp_path / "pretraining.json").read_text())["rows"]
    assert {"ours", "anew"} <= {row["model"] for row in rows}
