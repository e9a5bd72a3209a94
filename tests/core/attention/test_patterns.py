"""Patterns: their rules, their algebra, what is saved of them."""

from __future__ import annotations

import json
from typing import cast

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from core.attention import (
    Blocks,
    Causal,
    Dense,
    Dilated,
    Fixed,
    Global,
    HeadGroups,
    LogSparse,
    Pattern,
    Random,
    Strided,
    TopK,
    Window,
    bigbird,
    logsparse,
    longformer,
    pattern_from_dict,
    sparse_transformer,
)
from core.errors import ConfigError
from tests.core.attention.helpers import PATTERNS

N = 48
ATOMS = st.one_of(
    st.integers(0, 60).map(Window),
    st.lists(st.integers(0, 60), min_size=1, max_size=4).map(lambda at: Global(tuple(at))),
    st.builds(Random, st.integers(1, 3), st.integers(0, 2), st.sampled_from([1, 4, 8])),
    st.builds(Dilated, st.integers(1, 9), st.integers(2, 6)),
    st.integers(2, 9).map(Strided),
    st.integers(2, 4).map(LogSparse),
    st.builds(Fixed, st.integers(4, 9), st.integers(1, 3)),
    st.builds(Blocks, st.sampled_from([4, 8]), st.lists(st.lists(st.integers(-1, 9), max_size=3))),
    st.just(Causal()),
    st.just(Dense()),
)
BANDS = st.one_of(
    st.integers(0, 60).map(Window),
    st.integers(0, 9).map(lambda radius: Window(radius) | Causal()),
    st.just(Causal()),
    st.just(Dense()),
)
PATTERN = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(lambda a, b: a | b, inner, inner), st.builds(lambda a, b: a & b, inner, BANDS)
    ),
    max_leaves=5,
)


LEARNED = st.builds(TopK, st.integers(1, 3), st.sampled_from([4, 8]))
SOME_LEARNED = st.recursive(
    st.one_of(ATOMS, LEARNED),
    lambda inner: st.one_of(
        st.builds(lambda a, b: a | b, inner, inner), st.builds(lambda a, b: a & b, inner, BANDS)
    ),
    max_leaves=5,
)
HEADS = (
    st.tuples(SOME_LEARNED, SOME_LEARNED)
    .filter(lambda two: two[0] != two[1])
    .map(lambda two: HeadGroups(((two[0], 1), (two[1], 2))))
)


def rule(pattern: Pattern, n: int = N) -> Tensor:
    at = torch.arange(n)
    return pattern.allowed(at[:, None], at[None, :])


@settings(max_examples=200, deadline=None)
@given(PATTERN, PATTERN, PATTERN, BANDS)
def test_the_laws_of_the_algebra_hold(a: Pattern, b: Pattern, c: Pattern, band: Pattern) -> None:
    assert a | b == b | a and (a | b) | c == a | (b | c) and a | a == a
    assert a & Dense() == a and a & band == band & a and (a & band) & band == a & band
    assert a | Dense() == Dense()
    assert (a | b) & band == (a & band) | (b & band)


@settings(max_examples=200, deadline=None)
@given(SOME_LEARNED, SOME_LEARNED, SOME_LEARNED, BANDS)
def test_the_laws_hold_for_what_the_data_choose(
    a: Pattern, b: Pattern, c: Pattern, band: Pattern
) -> None:
    assert a | b == b | a and (a | b) | c == a | (b | c) and a | a == a
    assert a & Dense() == a and a & band == band & a and (a & band) & band == a & band
    assert a | Dense() == Dense()
    assert (a | b) & band == (a & band) | (b & band)
    assert pattern_from_dict(json.loads(json.dumps(a.to_dict()))) == a


@settings(max_examples=100, deadline=None)
@given(HEADS, HEADS, SOME_LEARNED, BANDS)
def test_the_laws_hold_for_heads_that_differ(
    a: Pattern, b: Pattern, c: Pattern, band: Pattern
) -> None:
    for one, other in ((a, b), (a, c), (c, a)):
        assert one | other == other | one and one | one == one
        assert (one | other) | b == one | (other | b)
        assert (one | other) & band == (one & band) | (other & band)
    assert a & Dense() == a and a & band == band & a and (a & band) & band == a & band
    assert a | Dense() == Dense()
    assert pattern_from_dict(json.loads(json.dumps(a.to_dict()))) == a


@settings(max_examples=60, deadline=None)
@given(PATTERN, PATTERN, st.integers(1, 70))
def test_pairs_of_a_union_are_counted_once(a: Pattern, b: Pattern, n: int) -> None:
    assert (a | b).plan(range(n), range(n)).pairs() == int((rule(a, n) | rule(b, n)).sum())


@settings(max_examples=100, deadline=None)
@given(PATTERN, BANDS, BANDS)
def test_cutting_by_a_union_of_bands_is_the_union_of_the_cuts(
    a: Pattern, one: Pattern, other: Pattern
) -> None:
    assert a & (one | other) == (a & one) | (a & other)


@given(st.integers(2, 9), st.integers(2, 9), st.integers(0, 60))
def test_two_strides_meet_at_their_common_multiples(a: int, b: int, radius: int) -> None:
    both = Strided(a) & (Strided(b) & Window(radius))
    assert both == (Strided(b) & Window(radius)) & Strided(a)
    assert torch.equal(rule(both), rule(Strided(a)) & rule(Strided(b)) & rule(Window(radius)))


def test_a_union_of_distances_has_one_form() -> None:
    assert Strided(2) | Strided(6) == Strided(2) and LogSparse(2) | LogSparse(4) == LogSparse(2)
    assert Strided(3) | Window(2) == Window(1) | (Strided(3) | Window(2)) | (Strided(6) & Causal())
    assert Strided(4) & Window(11) == Dilated(2, 4) and Strided(4) & Window(3) == Window(0)
    assert Window(9) | (Strided(4) & Window(9)) == Window(9) and Strided(4) | Window(0) == Strided(
        4
    )
    assert LogSparse(2) & LogSparse(4) == LogSparse(4)


def test_order_of_union_is_nothing_even_where_limits_of_global_tokens_differ() -> None:
    a, b, c = Global((0,)), Global((1,)), Global((0,)) & Window(0)
    assert (a | b) | c == a | (b | c) == Global((0, 1))


@settings(max_examples=60, deadline=None)
@given(PATTERN, PATTERN, BANDS)
def test_combining_patterns_combines_their_rules(a: Pattern, b: Pattern, band: Pattern) -> None:
    assert torch.equal(rule(a | b), rule(a) | rule(b))
    assert torch.equal(rule(a & band), rule(a) & rule(band))


@settings(max_examples=60, deadline=None)
@given(PATTERN)
def test_no_pair_is_further_apart_than_the_reach(pattern: Pattern) -> None:
    reach = pattern.reach()
    at = torch.arange(N)
    if reach is not None:
        assert not bool((rule(pattern) & ((at[:, None] - at).abs() > reach)).any())


@settings(max_examples=60, deadline=None)
@given(PATTERN)
def test_every_pattern_survives_json(pattern: Pattern) -> None:
    saved = json.loads(json.dumps(pattern.to_dict()))
    assert pattern_from_dict(saved) == pattern
    assert hash(pattern_from_dict(saved)) == hash(pattern)


def test_rules_are_the_published_ones() -> None:
    i, j = torch.arange(N)[:, None], torch.arange(N)[None]
    near, token = (i - j).abs() <= 3, (i == 5) | (j == 5)
    assert torch.equal(rule(Window(3)), near)
    assert torch.equal(rule(longformer(3, (5,))), near | token)
    assert torch.equal(rule(longformer(3, (5,), causal=True)), (near | token) & (j <= i))
    draws = rule(Random(2, seed=4))
    assert torch.equal(rule(bigbird(3, 2, (5,), seed=4)), near | token | draws)


def test_regular_rules_are_the_published_ones() -> None:
    i, j = torch.arange(N)[:, None], torch.arange(N)[None]
    past = j <= i
    near, stride = (i - j).abs() <= 7, (i - j) % 7 == 0
    assert torch.equal(rule(Dilated(2, 7)), stride & ((i - j).abs() <= 14))
    # Child et al. 2019, section 4.3, in its notation: l = 7, c = 2
    strided = past & (near | stride)
    assert torch.equal(rule(sparse_transformer(7, causal=True)), strided)
    fixed = past & ((i // 7 == j // 7) | ((j % 7 >= 5) & (j % 7 <= 6)))
    assert torch.equal(rule(Fixed(7, 2) & Causal()), fixed)
    # Li et al. 2019, definition of LogSparse attention: l - 2^0, l - 2^1, ... and l
    log = i == j
    for power in (1, 2, 4, 8, 16, 32):
        log = log | (j == i - power)
    assert torch.equal(rule(LogSparse() & Causal()), log)
    assert torch.equal(rule(logsparse(7, causal=True)), past & (log | near))
    assert torch.equal(rule(LogSparse()), log | log.T)


def test_reach_of_known_patterns() -> None:
    assert Window(7).reach() == 7 and (Window(7) & Causal()).reach() == 7
    assert (Window(3) | Window(9)).reach() == 9
    assert (Random(1, seed=0) & Window(100)).reach() == 100
    assert Dilated(3, 5).reach() == 15 and (LogSparse() & Window(100)).reach() == 64
    assert all(p.reach() is None for p in (Strided(4), LogSparse(), Fixed(4, 1)))
    assert all(p.reach() is None for p in (Global((0,)), Causal(), Dense(), Random(1, seed=0)))


def test_picture_of_a_causal_window_with_a_global_token() -> None:
    assert longformer(1, (0,), causal=True).draw(4) == "#...\n##..\n###.\n#.##"


def test_random_draws_do_not_depend_on_the_length() -> None:
    pattern = Random(2, seed=1, block=4)
    assert torch.equal(rule(pattern, 300)[:64, :64], rule(pattern, 64))


def test_random_draws_are_spread_evenly_over_the_blocks() -> None:
    drawn = Random(4, seed=0).drawn(torch.arange(512, 1024))
    assert drawn.min() >= 0 and drawn.max() < 1024
    counts = torch.histc(drawn.float(), 16, 0, 1024)
    assert counts.min() > 0.7 * counts.mean() and counts.max() < 1.3 * counts.mean()


def test_a_random_row_sees_whole_blocks_and_no_more_than_asked() -> None:
    blocks = rule(Random(3, seed=2, block=8), 256).view(32, 8, 32, 8)
    assert torch.equal(blocks.any(3).any(1), blocks.all(3).all(1))
    assert int(blocks[:, 0, :, 0].sum(1).max()) <= 3


def test_another_seed_draws_other_blocks() -> None:
    assert not torch.equal(rule(Random(1, seed=0, block=4)), rule(Random(1, seed=1, block=4)))
    tables = [
        [part.cols.index() for part in Random(1, s).plan(range(4096), range(4096)).parts]
        for s in (0, 1)
    ]
    assert any(not torch.equal(a, b) for a, b in zip(*tables, strict=True))


def test_named_patterns_are_plain_unions() -> None:
    assert longformer(3) == Window(3)
    assert longformer(3, (0,)) == Global((0,)) | Window(3)
    assert bigbird(3, 2, (0,), seed=1) == Random(2, 1) | Window(3) | Global((0,))
    assert PATTERNS["bigbird-causal"] == PATTERNS["bigbird"] & Causal()


def test_what_cannot_be_read_or_combined_is_refused() -> None:
    with pytest.raises(ConfigError, match="got 'spiral', expected one of"):
        pattern_from_dict({"kind": "spiral"})
    with pytest.raises(ConfigError, match="got fields"):
        pattern_from_dict({"kind": "window", "width": 3})
    with pytest.raises(ConfigError, match="cannot intersect"):
        Global((0,)) & Random(1, seed=0)
    with pytest.raises(ConfigError, match=r"Strided\(step=4\) with LogSparse"):
        Strided(4) & LogSparse(2)
    for seed in (1.5, "1", 1 << 63):
        with pytest.raises(ConfigError, match=f"Random: got seed {seed!r}, expected"):
            Random(1, cast(int, seed))
    for left in (-4, "3", 1.5):
        with pytest.raises(ConfigError, match=f"got left {left!r}, expected an integer"):
            member = {"base": None, "left": left, "right": 0}
            pattern_from_dict({"kind": "mixture", "members": [member]})
    for wrong in (
        lambda: Window(-1),
        lambda: Global(()),
        lambda: Random(0, seed=0),
        lambda: Dilated(0, 2),
        lambda: Dilated(3, 1),
        lambda: Strided(1),
        lambda: LogSparse(1),
        lambda: Fixed(4, 4),
    ):
        with pytest.raises(ConfigError, match="expected"):
            wrong()


def test_numbers_where_ranges_or_lists_belong_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"plan: got q 10 and kv 10, expected ranges"):
        Window(3).plan(10, 10)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"Global: got 0, expected positions, such as \(0,\)"):
        Global(0)  # type: ignore[arg-type]
