"""A budget becomes patterns: each within it, each about as large as it allows."""

from __future__ import annotations

import pytest

from core.attention import Causal, Dense, Pattern, Window
from core.attention.auto import (
    LEAST_FILL,
    Candidate,
    LeftOut,
    Workload,
    attention_cost,
    candidates,
    dense_twin,
    share_of_dense,
)

FAMILIES = {"window", "longformer", "bigbird", "strided", "sparse_transformer", "fixed"}


def solved(
    n: int, share: float, causal: bool = False
) -> tuple[dict[str, Candidate], dict[str, LeftOut]]:
    load = Workload(n, sequences=2, layers=2, heads=2, size=16)

    def fill(pattern: Pattern) -> float:
        return share_of_dense(pattern, load, causal) / share

    found, left_out = candidates(n, fill, causal=causal)
    return {one.name: one for one in found}, {one.name: one for one in left_out}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("n, share", [(4096, 0.1), (1000, 0.4)])
def test_every_candidate_fits_the_budget_and_uses_most_of_it(
    n: int, share: float, causal: bool
) -> None:
    found, _ = solved(n, share, causal)
    assert {*FAMILIES, "logsparse", "dilated-2"} <= set(found)
    load = Workload(n, sequences=1, layers=1, heads=1, size=16)
    for one in found.values():
        assert LEAST_FILL * share <= share_of_dense(one.pattern, load, causal) <= share


def test_one_size_more_would_not_fit() -> None:
    found, _ = solved(4096, 0.1)
    load = Workload(4096, sequences=1, layers=1, heads=1, size=16)
    (_, radius), *_ = found["window"].sizes
    assert found["window"].pattern == Window(radius)
    assert share_of_dense(Window(radius + 1), load) > 0.1


def test_equal_budgets_give_equal_candidates() -> None:
    assert solved(2048, 0.1) == solved(2048, 0.1)


def test_a_family_that_cannot_fit_says_what_its_cheapest_member_costs() -> None:
    found, left_out = solved(256, 0.1)
    assert "window" not in found
    load = Workload(256, sequences=1, layers=1, heads=1, size=16)
    least = share_of_dense(Window(1), load) / 0.1
    assert left_out["window"].least == pytest.approx(least)
    assert "radius=1, costs" in left_out["window"].reason


def test_an_objection_leaves_a_family_out_or_makes_it_smaller() -> None:
    def unbounded(pattern: Pattern) -> str | None:
        reach = pattern.reach()
        return None if reach is not None and reach <= 40 else "too far"

    found, left_out = candidates(512, lambda pattern: 0.6, objection=unbounded)
    assert {one.name: one.pattern.reach() for one in found} == {
        "window": 40,
        "dilated-2": 40,
        "dilated-8": 40,
    }
    assert all(one.reason == "too far" and one.least is None for one in left_out)


@pytest.mark.parametrize("spare", [1e-3, 1e-9, 0.0])
def test_a_budget_above_all_patterns_leaves_their_largest_members(spare: float) -> None:
    load = Workload(1024, sequences=2, layers=2, heads=2, size=16)

    def bounded(pattern: Pattern) -> str | None:
        return "too far" if pattern.reach() is None else None

    found, left_out = candidates(
        1024, lambda pattern: spare * share_of_dense(pattern, load), objection=bounded
    )
    assert {"window", "dilated-2"} <= {one.name for one in found}
    assert found[0].pattern == Window(1023)
    short = {one.name: one.reason for one in left_out}.get("dilated-32", "")
    assert not spare or "of the budget only, others up to" in short


def test_causal_candidates_never_look_ahead() -> None:
    found, _ = solved(300, 0.6, causal=True)
    assert found
    for one in found.values():
        rows = one.pattern.draw(300).split("\n")
        assert all(set(row[at + 1 :]) <= {"."} for at, row in enumerate(rows))


def test_dense_costs_all_of_dense_and_work_adds_up() -> None:
    small, large = (Workload(256, s, layers=s, heads=2, size=8) for s in (1, 3))
    assert share_of_dense(Dense(), small) == 1
    assert attention_cost(Window(4), large) == 9 * attention_cost(Window(4), small)
    assert dense_twin(causal=True) == Dense() & Causal()


@pytest.mark.parametrize("n", [1, 2, 3, 17])
def test_very_short_sequences_have_candidates_or_reasons(n: int) -> None:
    found, left_out = candidates(n, lambda pattern: 1.0)
    assert len(found) + len(left_out) >= len(FAMILIES)
