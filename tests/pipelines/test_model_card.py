"""What a bundle's card tells of its settings."""

from __future__ import annotations

from pipelines.model_card import setting_table


def test_settings_that_are_set_are_told_by_their_names() -> None:
    manifest = {
        "config": {
            "strand": "plus",
            "codons": False,
            "noise": 0.0,
            "data": {"fasta": None, "tracks": {}, "positive": [], "label": "A|B"},
        },
        "training": {"seed": 0, "trainer": {"members": 3}},
    }
    assert setting_table(manifest).splitlines()[2:] == [
        "| `domain.strand` | plus |",
        "| `domain.codons` | False |",
        "| `domain.noise` | 0.0 |",
        r"| `domain.data.label` | A\|B |",
        "| `seed` | 0 |",
        "| `trainer.members` | 3 |",
    ]
