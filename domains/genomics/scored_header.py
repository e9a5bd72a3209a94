"""What the header of a scored VCF says: each tag's meaning, and where the numbers come from."""

from __future__ import annotations

from dataclasses import dataclass

from domains.genomics.config import GenomicsConfig
from domains.genomics.same_codon import SAME_CODON
from domains.genomics.tokenizer import EffectTokenizer
from domains.genomics.verdict import FLIPPED, FLIPPED_MEANS, REASONS

USE = "Research use only: not validated for clinical decisions"


@dataclass(frozen=True)
class Provenance:
    """Model, reference and context of the scores: the model is the mean of `trainings`
    of a network; `reach` None is a window centred on the site."""

    model: str
    reference: str
    md5: str
    reach: int | None
    window: int
    annotated: bool
    trainings: int


def header_lines(
    config: GenomicsConfig, tokenizer: EffectTokenizer, provenance: Provenance
) -> list[str]:
    """INFO and meta lines, without line endings."""
    reasons = {FLIPPED: FLIPPED_MEANS, **REASONS}
    told = "; ".join(f"{code}: {text}" for code, text in reasons.items())
    label, positive = config.data.label, " or ".join(config.data.positive)
    classification = tokenizer.label_kind == "classification"
    unit = f"logit that {label} is {positive}" if classification else f"in the unit of {label}"
    lines = [
        _info(
            "LS_EFFECT", "A", "Float", f"Predicted effect of the allele, {unit}; {_sign(tokenizer)}"
        )
    ]
    if provenance.trainings > 1:
        text = (
            f"Standard deviation of LS_EFFECT over the {provenance.trainings} trainings whose mean "
            f"it is (divisor {provenance.trainings - 1}), in its unit"
        )
        lines.append(_info("LS_SD", "A", "Float", text))
    if classification:
        text = f"Calibrated probability that {label} is {positive}"
        lines.append(_info("LS_PROB", "A", "Float", text))
    lines.append(_info("LS_REASON", "A", "String", f"SCORED, or why there is no score. {told}"))
    if provenance.annotated:
        text = (
            f"Consequence by bcftools csq with genetic code {config.data.genetic_code}, gravest "
            "transcript first and transcripts apart by /: "
            "term&term|gene|transcript|coding change|protein change"
        )
        lines.append(_info("LS_CSQ", "A", "String", text))
        text = f"{SAME_CODON}: another record changes the same codon; each is scored alone"
        lines.append(_info("LS_WARNING", ".", "String", text))
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
        "##longstrandStrand=the sequence is read on its plus strand",
    ]


def _sign(tokenizer: EffectTokenizer) -> str:
    if tokenizer.label_kind == "classification":
        return "higher is more like that class"
    if tokenizer.damaging == 0:
        return "which direction is damaging is not known"
    side = "higher" if tokenizer.damaging > 0 else "lower"
    return f"{side} is more damaging, as graver consequences have {side} labels in training"


def _info(name: str, number: str, kind: str, text: str) -> str:
    clean = text.replace("\\", "/").replace('"', "'")
    return f'##INFO=<ID={name},Number={number},Type={kind},Description="{clean}">'
