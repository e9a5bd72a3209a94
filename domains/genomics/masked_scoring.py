"""Zero-shot scores: log-likelihood ratios of alternatives, from a network that saw no label."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import polars as pl
import torch

from domains.genomics.contig import UNKNOWN
from domains.genomics.masked_window import stack_bases
from domains.genomics.scored_header import header_lines, info
from domains.genomics.scoring import AlleleScorer
from domains.genomics.source import Reference
from domains.genomics.tile import TOKENS_A_FORWARD, score_positions
from domains.genomics.window import Span

if TYPE_CHECKING:
    from domains.genomics.masked_model import MaskedModule
    from domains.genomics.variant_file import VariantFile

_FORMS = {
    "masked": (
        "Log-likelihood ratio (nats) of the allele and the FASTA's base at the site, given the "
        "bases around it but not the site's own; lower is less expected"
    ),
    "unmasked": (
        "Log-likelihood ratio (nats) of the sequence with the allele and of the FASTA's: the sum "
        "over all bases that the site can change, each given those around it; lower is less "
        "expected"
    ),
}


class MaskedScorer(AlleleScorer):
    """LS_LLR in the form that `scoring.llr` names."""

    tags: Mapping[str, str] = {"LS_LLR": "llr"}
    strand = "both strands are read, each up to the site"

    def __init__(
        self, source: VariantFile, module: MaskedModule, window: int, version: str
    ) -> None:
        super().__init__(source, module, window, version)
        self.network = module
        self.form = source.config.scoring.llr

    def numbers(self, alleles: pl.DataFrame) -> Mapping[str, np.ndarray]:
        levels = masked_levels if self.form == "masked" else sequence_levels

        def told(contig: str, sites: np.ndarray) -> list[np.ndarray]:
            reference = self.source.reference
            level = levels(self.network, reference, contig, sites, self.window)
            own = reference.sequence(contig)[sites].astype(np.int64)
            # A site whose base is N has no score; which base stands in for it does not matter.
            own = np.minimum(own, UNKNOWN - 1)
            return [level - np.take_along_axis(level, own[:, None], axis=1)]

        return {"llr": self.at_sites(alleles, told, 1)[0]}

    def header_lines(self) -> list[str]:
        lines = [info("LS_LLR", _FORMS[self.form])]
        return header_lines(self.source.config, lines, self.provenance())


def masked_levels(
    module: MaskedModule, reference: Reference, contig: str, sites: np.ndarray, window: int
) -> np.ndarray:
    """float32 [n, 4]: log-probability (nats) of each base at each of the sorted sites [n], from
    tiles that neighbours share."""
    return score_positions(module, reference, contig, sites, window, stack_bases)


@torch.inference_mode()
def sequence_levels(
    module: MaskedModule, reference: Reference, contig: str, sites: np.ndarray, window: int
) -> np.ndarray:
    """float32 [n, 4]: of the sequence with each base at the site, the sum of the log-probabilities
    (nats) of all bases that the site's base can change, each given the others.

    With unbounded reach: over a window centred on the site. Four windows a site, none shared.
    """
    module.eval()
    reach = module.reach()
    far, half = (window // 2, window // 2) if reach is None else (reach, 2 * reach)
    length, width = len(reference.sequence(contig)), 2 * half + 1
    some = max(1, TOKENS_A_FORWARD // (4 * width))
    out = np.empty((len(sites), 4), dtype=np.float32)
    for first in range(0, len(sites), some):
        here = sites[first : first + some]
        spans = [Span(contig, max(0, s - half), min(length, s + half + 1)) for s in here.tolist()]
        batch = stack_bases(reference, [span for span in spans for _ in range(4)], width)
        place = torch.from_numpy(np.repeat([s.start for s in spans], 4))
        place = torch.from_numpy(np.repeat(here, 4)) - place
        base = batch["base"]
        base[torch.arange(len(base)), place] = torch.arange(4, dtype=torch.uint8).repeat(len(here))
        batch = {k: v.to(module.device) for k, v in batch.items() if k != "tokens"}
        index = batch["base"].long()
        level = module.each(batch)[0].gather(-1, index.clamp_max(UNKNOWN - 1)[..., None])[..., 0]
        near = (torch.arange(width) - place[:, None]).abs() <= far
        counted = near.to(module.device) & (index != UNKNOWN)
        total = (level * counted).double().sum(1).view(-1, 4)
        out[first : first + some] = total.cpu().numpy()
    return out
