"""What the header of a scored VCF says: each tag's meaning, and where the numbers come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from domains.genomics.config import DifferenceConfig, GenomicsConfig
from domains.genomics.same_codon import SAME_CODON
from domains.genomics.tokenizer import EffectTokenizer
from domains.genomics.vcf import OUR_TAGS
from domains.genomics.verdict import FLIPPED, FLIPPED_MEANS, REASONS

USE = "Research use only: not validated for clinical decisions"


@dataclass(frozen=True)
class Provenance:
    """Model, reference and context of the scores: `reach` None is a window centred on the site;
    `strand` says what is read."""

    model: str
    reference: str
    md5: str
    reach: int | None
    window: int
    annotated: bool
    strand: str


def header_lines(
    config: GenomicsConfig, numbers: Sequence[str], provenance: Provenance
) -> list[str]:
    """INFO and meta lines, without line endings; `numbers` are those of the scores themselves."""
    reasons = {FLIPPED: FLIPPED_MEANS, **REASONS}
    told = "; ".join(f"{code}: {text}" for code, text in reasons.items())
    lines = [
        *numbers,
        info("LS_REASON", f"SCORED, or why there is no score. {told}"),
    ]
    if provenance.annotated:
        text = (
            f"Consequence by bcftools csq with genetic code {config.data.genetic_code}, gravest "
            "transcript first and transcripts apart by /: "
            "term&term|gene|transcript|coding change|protein change; . on a contig that the "
            "annotation does not mention"
        )
        lines.append(info("LS_CSQ", text))
        text = (
            f"{SAME_CODON}: an allele of the record is scored alone though another scored "
            "substitution of the file changes its codon, too, at another place"
        )
        lines.append(info("LS_WARNING", text))
    reach = provenance.reach
    context = (
        f"centred window of {provenance.window} bases"
        if reach is None
        else f"{reach} bases either side"
    )
    return [
        *lines,
        "##source=longstrand",
        f"##longstrandUse={USE}",
        f"##longstrandModel={provenance.model}",
        f"##longstrandReference={provenance.reference}",
        f"##longstrandReferenceMd5={provenance.md5}",
        f"##longstrandContext={context}",
        f"##longstrandStrand={provenance.strand}",
    ]


def effect_lines(config: GenomicsConfig, tokenizer: EffectTokenizer, trainings: int) -> list[str]:
    """INFO lines of predicted effects, the mean of so many trainings."""
    label, positive = config.data.label, " or ".join(config.data.positive)
    classification = tokenizer.label_kind == "classification"
    unit = f"logit that {label} is {positive}" if classification else f"in the unit of {label}"
    lines = [info("LS_EFFECT", f"Predicted effect of the allele, {unit}; {_sign(tokenizer)}")]
    if trainings > 1:
        text = (
            f"Standard deviation of LS_EFFECT over the {trainings} trainings whose mean "
            f"it is (divisor {trainings - 1}), in its unit"
        )
        lines.append(info("LS_SD", text))
    if classification:
        text = f"Calibrated probability that {label} is {positive}"
        lines.append(info("LS_PROB", text))
    return lines


def percentile_line(difference: DifferenceConfig) -> str:
    """INFO line of the percentile of an event."""
    text = (
        "Of an insertion, deletion or substitution of several bases: share of "
        f"{difference.random} random ones of the same lengths in unannotated sequence that have a "
        "lower LS_EFFECT"
    )
    return info("LS_PERCENTILE", text)


def _sign(tokenizer: EffectTokenizer) -> str:
    if tokenizer.label_kind == "classification":
        return "higher is more like that class"
    if tokenizer.damaging == 0:
        return "which direction is damaging is not known"
    side = "higher" if tokenizer.damaging > 0 else "lower"
    return f"{side} is more damaging, as graver consequences have {side} labels in training"


def info(name: str, text: str) -> str:
    """The header's line of a tag of `vcf.OUR_TAGS`."""
    number, kind = OUR_TAGS[name]
    clean = text.replace("\\", "/").replace('"', "'")
    return f'##INFO=<ID={name},Number={number},Type={kind},Description="{clean}">'
