"""Whole encoders side by side: ours, transformers' Longformer and BigBird, PyTorch's dense one.

    python -m benchmarks.encoders [device=cuda] [dtype=bfloat16] [quick=true] [out=DIR]

Longformer and BigBird run on the same weights as ours, loaded by `core.model.from_transformers`;
before the clock starts their outputs are compared with ours. `SparseEncoder` with a window is
timed against `nn.TransformerEncoder` of the same size. Takes about ten minutes on two cores.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import BigBirdConfig, BigBirdModel, LongformerConfig, LongformerModel

from benchmarks.measure import interleaved
from benchmarks.results import folder, machine, start, table, usable, write
from core.attention import Window
from core.errors import ConfigError
from core.model import EncoderConfig, SparseEncoder
from core.model.from_transformers import from_bigbird, from_longformer

RADIUS = 256  # tokens on either side; Longformer's attention_window is both, 512
PASSES = ("forward", "forward+backward")
REPEATS, BUDGET = 5, 20.0  # timed runs of a pass, and the seconds after which no more are begun
DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}
CLOSE = 1e-3  # of outputs in float32, which are normed, so near 1 in size


@dataclass(frozen=True)
class Settings:
    """Options of the command line."""

    device: str = "cpu"
    dtype: str = "float32"
    quick: bool = False
    out: str = ""


@dataclass(frozen=True)
class Size:
    """Of every encoder compared."""

    layers: int = 4
    dim: int = 256
    heads: int = 8
    hidden: int = 1024
    radius: int = RADIUS
    sparse: tuple[int, ...] = (4096, 16384)
    dense: tuple[int, ...] = (1024, 2048, 4096, 8192, 16384)


QUICK = Size(layers=1, dim=32, heads=2, hidden=64, radius=32, sparse=(768,), dense=(256, 512))


@dataclass(frozen=True)
class Contest:
    """Two encoders for one input. `same` says that they must give the same output."""

    pattern: str
    n: int
    rival: str
    models: dict[str, nn.Module]
    inputs: tuple[Any, ...]
    same: bool


def longformer(size: Size, n: int) -> Contest:
    """The first token is global, as a classifier has it."""
    config = LongformerConfig(
        **_shared(size),
        attention_window=2 * size.radius,
        max_position_embeddings=n + 2,
        pad_token_id=1,
    )
    theirs = LongformerModel(config, add_pooling_layer=False)
    ours, tokens = from_longformer(theirs, (0,)), _tokens(n)
    mask = torch.zeros_like(tokens).index_fill(1, torch.tensor([0]), 1)
    models = {"hf_longformer": _Theirs(theirs, global_attention_mask=mask), "ours": ours}
    name = f"longformer, radius {size.radius}, 1 global token"
    return Contest(name, n, "hf_longformer", models, (tokens,), same=True)


def bigbird(size: Size, n: int) -> Contest:
    """In training mode: out of it transformers' random blocks are all block 0."""
    config = BigBirdConfig(
        **_shared(size), max_position_embeddings=n, attention_type="block_sparse"
    )
    theirs = BigBirdModel(config, add_pooling_layer=False).train()
    models = {"hf_bigbird": _Theirs(theirs), "ours": from_bigbird(theirs, n)}
    name = f"bigbird, blocks of {config.block_size}, {config.num_random_blocks} random"
    return Contest(name, n, "hf_bigbird", models, (_tokens(n),), same=True)


def dense(size: Size, n: int) -> Contest:
    """PyTorch's pre-norm encoder through fused attention, against ours with a window."""
    layer = nn.TransformerEncoderLayer(
        size.dim, size.heads, size.hidden, 0.0, "gelu", batch_first=True, norm_first=True
    )
    theirs = nn.TransformerEncoder(
        layer, size.layers, nn.LayerNorm(size.dim), enable_nested_tensor=False
    )
    ours = SparseEncoder(
        EncoderConfig(
            dim=size.dim,
            layers=size.layers,
            heads=size.heads,
            ffn=size.hidden // size.dim,
            pattern=Window(size.radius),
        )
    )
    models = {"torch_dense": theirs, "ours": ours}
    x_BND = torch.randn(1, n, size.dim)
    return Contest(f"window, radius {size.radius}", n, "torch_dense", models, (x_BND,), same=False)


def contests(size: Size) -> Iterator[Contest]:
    """One at a time, as the large ones take gigabytes."""
    yield from (longformer(size, n) for n in size.sparse)
    yield from (bigbird(size, n) for n in size.sparse)
    yield from (dense(size, n) for n in size.dense)


def measure(contest: Contest, settings: Settings) -> Iterator[dict[str, Any]]:
    """A row for each model and pass. Raises ConfigError where outputs that must agree don't."""
    dtype = DTYPES[settings.dtype]
    if contest.same:
        _compare(contest, *_moved(contest, settings.device, torch.float32))
    models, inputs = _moved(contest, settings.device, dtype)
    makers = {"forward": _forward, "forward+backward": _forward_backward}
    for kind in PASSES:
        runs = {name: makers[kind](model, inputs) for name, model in models.items()}
        seconds = interleaved(runs, REPEATS, BUDGET)
        for name, found in seconds.items():
            yield {
                "model": name,
                "pattern": contest.pattern,
                "n": contest.n,
                "dtype": settings.dtype,
                "pass": kind,
                "seconds": statistics.median(found),
                "repeats": len(found),
            }


def compared(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A line for each rival, length and pass: its seconds, ours, and how much faster ours is."""
    ours = {(r["pattern"], r["n"], r["pass"]): r for r in rows if r["model"] == "ours"}
    lines: list[dict[str, Any]] = []
    for theirs in rows:
        if theirs["model"] == "ours":
            continue
        our = ours[theirs["pattern"], theirs["n"], theirs["pass"]]
        lines.append(
            {
                "against": theirs["model"],
                "n": theirs["n"],
                "pass": theirs["pass"],
                "seconds": theirs["seconds"],
                "ours": our["seconds"],
                "ratio": theirs["seconds"] / our["seconds"],
                "repeats": f"{theirs['repeats']}/{our['repeats']}",
                "our pattern": our["pattern"],
            }
        )
    return lines


def overtaking(lines: list[dict[str, Any]], kind: str) -> str:
    """From which length on ours beat the dense encoder at all lengths measured."""
    first: int | None = None
    for line in sorted(lines, key=lambda line: line["n"]):
        if line["against"] == "torch_dense" and line["pass"] == kind:
            first = (first or line["n"]) if line["ratio"] > 1 else None
    found = "at no length measured" if first is None else f"from n = {first} on"
    return f"{kind}: faster than torch_dense {found}"


def run(settings: Settings) -> None:
    """Measures, prints the table and writes the result file."""
    if settings.dtype not in DTYPES:
        raise ConfigError(f"dtype: got {settings.dtype!r}, expected one of {[*DTYPES]}")
    device = usable(settings.device)
    # PyTorch's fast path for inference on CPU writes out all n x n weights and is slower
    torch.backends.mha.set_fastpath_enabled(False)
    torch.manual_seed(0)
    began, size = machine(), QUICK if settings.quick else Size()
    print(
        f"{size.layers} layers, {size.dim} channels, {size.heads} heads, feed-forward "
        f"{size.hidden}, batch 1, {settings.dtype} on {settings.device}; radius {size.radius} is "
        f"Longformer's attention_window {2 * size.radius}; load before: {began['load']}"
    )
    rows = [row for contest in contests(size) for row in measure(contest, settings)]
    lines = compared(rows)
    print(table(lines, [*lines[0]]))
    print("\n".join(overtaking(lines, kind) for kind in PASSES))
    name = "encoders" if settings.dtype == "float32" else f"encoders.{settings.dtype}"
    print("wrote", write(name, rows, began, device, folder(settings.quick, settings.out)))


class _Theirs(nn.Module):
    """A model of transformers as a function of tokens to encoded tokens."""

    def __init__(self, model: nn.Module, **masks: Tensor) -> None:
        super().__init__()
        self.model, self.masks = model, masks

    def forward(self, tokens: Tensor) -> Tensor:
        masks = {name: mask.to(tokens.device) for name, mask in self.masks.items()}
        return self.model(tokens, **masks).last_hidden_state


def _shared(size: Size) -> dict[str, Any]:
    return {
        "vocab_size": 100,
        "hidden_size": size.dim,
        "num_hidden_layers": size.layers,
        "num_attention_heads": size.heads,
        "intermediate_size": size.hidden,
        "initializer_range": 0.2,  # far from uniform attention, so that comparing outputs tells
        "hidden_dropout_prob": 0.0,
        "attention_probs_dropout_prob": 0.0,
    }


def _tokens(n: int) -> Tensor:
    return torch.randint(2, 100, (1, n))


def _moved(
    contest: Contest, device: str, dtype: torch.dtype
) -> tuple[dict[str, nn.Module], tuple[Any, ...]]:
    models = {name: model.to(device, dtype) for name, model in contest.models.items()}
    to = {True: dtype, False: None}
    return models, tuple(x.to(device, to[x.is_floating_point()]) for x in contest.inputs)


def _compare(contest: Contest, models: dict[str, nn.Module], inputs: tuple[Any, ...]) -> None:
    """In float32: in bfloat16 either of them is further from the exact output than they are here
    from each other."""
    with torch.no_grad():
        theirs, ours = models[contest.rival](*inputs), models["ours"](*inputs)
    apart = (theirs - ours).abs().max().item()
    if not apart <= CLOSE:
        raise ConfigError(
            f"{contest.rival} at n={contest.n}: outputs differ from ours by {apart:.3g}, expected "
            f"at most {CLOSE}: these are not the same function, and times would mean nothing"
        )


def _forward(model: nn.Module, inputs: tuple[Any, ...]) -> Callable[[], None]:
    def forward() -> None:
        with torch.no_grad():
            model(*inputs)

    return forward


def _forward_backward(model: nn.Module, inputs: tuple[Any, ...]) -> Callable[[], None]:
    def forward_backward() -> None:
        model.zero_grad(set_to_none=True)
        out = model(*inputs)
        out.backward(torch.ones_like(out).cumsum(1).cos())

    return forward_backward


if __name__ == "__main__":
    start(Settings, run)
