"""Linear and feed-forward layers by the faster way, beside torch's own, which they stand for."""

from __future__ import annotations

import copy
import weakref

import pytest
import torch
from torch import Tensor, nn

from core.errors import ConfigError
from core.model import linear
from core.model.block import SwiGLU
from core.model.linear import FeedForward, Linear

needs_onednn = pytest.mark.skipif(
    not torch.backends.mkldnn.is_available(), reason="this torch is built without oneDNN"
)
LAYERS: dict[str, nn.Module] = {
    "linear": Linear(33, 47),
    "without bias": Linear(33, 47, bias=False),
    "gelu": FeedForward(33, 47, nn.GELU()),
    "gelu_tanh": FeedForward(33, 47, nn.GELU("tanh")),
    "relu": FeedForward(33, 47, nn.ReLU()),
    "swiglu": SwiGLU(33, 47),
}
each_layer = pytest.mark.parametrize("layer", LAYERS.values(), ids=LAYERS.keys())


@pytest.fixture
def products(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Rows of each product by the faster way, which here begins at 16 rows of any width."""
    counted: list[int] = []
    product = linear._product

    def counting(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
        counted.append(x.shape[:-1].numel())
        return product(x, weight, bias)

    monkeypatch.setattr(linear, "_product", counting)
    monkeypatch.setattr(linear, "ROWS", 16)
    monkeypatch.setattr(linear, "EVEN", 1)
    monkeypatch.setattr(linear, "NARROWEST", 1)
    monkeypatch.setattr(linear, "HIDDEN", 16 * 47)
    return counted


def found(layer: nn.Module, x: Tensor) -> list[Tensor]:
    """What comes out, and the gradients of x and of every weight."""
    x = x.clone().requires_grad_()
    out = layer(x)
    weights = [x, *layer.parameters()]
    return [out.detach(), *torch.autograd.grad((out * out.detach().cos()).sum(), weights)]


@needs_onednn
@pytest.mark.parametrize("shape", [(63,), (111,), (128,), (129,), (2, 32), (3, 37), (2, 3, 17)])
@each_layer
def test_values_and_gradients_are_torchs(
    layer: nn.Module, shape: tuple[int, ...], products: list[int]
) -> None:
    torch.manual_seed(1)
    x = torch.randn(*shape, 33)
    ours = found(layer, x)
    assert products
    products.clear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear, "_many", lambda *_: False)
        theirs, exact = found(layer, x), found(copy.deepcopy(layer).double(), x.double())
    assert not products
    for one, other, true in zip(ours, theirs, exact, strict=True):
        apart = (one - true).abs().max()
        assert apart <= 2 * (other - true).abs().max() + 1e-6 * true.abs().max()


@needs_onednn
@each_layer
def test_without_gradient_it_is_the_same(layer: nn.Module, products: list[int]) -> None:
    x = torch.randn(2, 70, 33)
    with torch.no_grad():
        out = layer(x)
    assert products and not out.requires_grad
    assert torch.equal(out, layer(x).detach())


@needs_onednn
def test_no_hidden_width_is_kept_without_gradient(
    products: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept: list[int] = []

    def pack(x: Tensor) -> Tensor:
        kept.append(x.shape[-1])
        return x

    layer, x = FeedForward(33, 47, nn.GELU()), torch.randn(40, 33)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        layer(x)
        assert 47 in kept
        kept.clear()
        with torch.no_grad():
            layer(x)
    assert 47 not in kept


@needs_onednn
def test_a_frozen_layer_holds_one_stretch_at_a_time(
    products: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[weakref.ref[Tensor]] = []

    def alive(hidden: Tensor) -> Tensor:
        assert not [one for one in held if one() is not None]
        held.append(weakref.ref(hidden))
        return hidden.tanh()

    first, second = (nn.Linear(*size).requires_grad_(False) for size in ((33, 47), (47, 33)))
    linear.two_layers(torch.randn(64, 33), first, alive, second)
    assert len(held) == 4
    first.requires_grad_(True)
    with pytest.raises(AssertionError):
        linear.two_layers(torch.randn(64, 33), first, alive, second)


@needs_onednn
@each_layer
def test_what_comes_out_may_be_added_to_in_place(layer: nn.Module, products: list[int]) -> None:
    x = torch.randn(2, 40, 33, requires_grad=True)
    (found,) = torch.autograd.grad(layer(x).mul_(2).sum(), x)
    assert products
    torch.testing.assert_close(found, torch.autograd.grad(2 * layer(x).sum(), x)[0])


@needs_onednn
@each_layer
def test_a_second_derivative_is_refused(layer: nn.Module, products: list[int]) -> None:
    for loss in (torch.sum, lambda out: out.square().sum()):
        x = torch.randn(40, 33, requires_grad=True)
        (slope,) = torch.autograd.grad(loss(layer(x)), x, create_graph=True)
        with pytest.raises(ConfigError, match="layer on CPU: got a derivative of its gradient"):
            (loss(layer(x)) + slope.sum()).backward()
    with torch.backends.mkldnn.flags(enabled=False):  # what the message says to do instead
        (slope,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
        slope.sum().backward()


@needs_onednn
@each_layer
def test_a_weight_changed_before_the_backward_is_refused(
    layer: nn.Module, products: list[int]
) -> None:
    for name in (name for name, _ in layer.named_parameters() if "weight" in name):
        some = copy.deepcopy(layer)
        out = some(torch.randn(40, 33, requires_grad=True))
        with torch.no_grad():
            some.get_parameter(name).mul_(2)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            out.sum().backward()


class Shifted(nn.Linear):
    """A layer that a library puts in the place of torch's."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + 1


def raised(_: nn.Module, __: object, out: Tensor) -> Tensor:
    return out + 1


@pytest.mark.parametrize("which", [0, 2])
def test_layers_that_are_more_than_a_product_are_called(which: int, products: list[int]) -> None:
    x, layer = torch.randn(40, 33), FeedForward(33, 47, nn.GELU())
    hooked, other = copy.deepcopy(layer), copy.deepcopy(layer)
    hooked.get_submodule(str(which)).register_forward_hook(raised)
    shifted = Shifted(*((33, 47) if which == 0 else (47, 33)))
    shifted.load_state_dict(layer.get_submodule(str(which)).state_dict())
    other[which] = shifted
    for some in (hooked, other):
        assert not torch.allclose(some(x), layer[2](layer[1](layer[0](x))), atol=0.01)
    assert not products


@needs_onednn
def test_frozen_weights_get_no_gradient(products: list[int]) -> None:
    for layer in (Linear(33, 47), FeedForward(33, 47, nn.GELU())):
        layer.requires_grad_(False)
        x = torch.randn(40, 33, requires_grad=True)
        layer(x).sum().backward()
        assert x.grad is not None and all(p.grad is None for p in layer.parameters())
        layer.requires_grad_(True)
        layer(x.detach()).sum().backward()
        assert all(p.grad is not None for p in layer.parameters())


@each_layer
def test_other_types_and_few_rows_take_torchs(layer: nn.Module, products: list[int]) -> None:
    x = torch.randn(40, 33)
    layer(x[:15])
    copy.deepcopy(layer).double()(x.double())
    copy.deepcopy(layer).bfloat16()(x.bfloat16())
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(x).dtype == torch.bfloat16
    assert not products


@each_layer
def test_an_exported_layer_is_torchs(layer: nn.Module, products: list[int]) -> None:
    x = torch.randn(40, 33)
    program = torch.export.export(layer, (x,))
    assert not products
    torch.testing.assert_close(program.module()(x), layer(x), rtol=1e-5, atol=1e-5)


def test_rows_of_an_uneven_number_take_torchs(
    products: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "EVEN", 16)
    layer = Linear(33, 47)
    layer(torch.randn(2, 20, 33))
    assert not products
    layer(torch.randn(2, 24, 33))
    assert bool(products) == torch.backends.mkldnn.is_available()


@each_layer
def test_channels_that_do_not_fit_are_told_of_by_torch(
    layer: nn.Module, products: list[int]
) -> None:
    with pytest.raises(RuntimeError, match="cannot be multiplied"):
        layer(torch.randn(40, 34))


def test_narrow_layers_take_torchs(products: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(linear, "NARROWEST", 40)
    Linear(33, 47)(torch.randn(40, 33))
    assert not products
