"""Every registered component is tested the day it registers: these tests run over the live registry."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import srzoo
from srzoo.compose import build_generator, create
from srzoo.entry import ComponentRef, Entry
from srzoo.errors import CompositionError
from srzoo.registry import get_registry
from srzoo.specs import DiscriminatorSpec, UpsamplerSpec
from srzoo.zoo import get_zoo

torch.set_num_threads(1)

BLOCKS = [c.full_name for c in get_registry().find("block")]
UPSAMPLERS = [c.full_name for c in get_registry().find("upsampler")]
GENERATORS = [c.full_name for c in get_registry().find("generator") if not c.spec.reads]  # the others need a file
DISCRIMINATORS = [c.full_name for c in get_registry().find("discriminator")]
SMALL = {
    "trunk": {
        "block": {"name": "residual", "norm": "none"},
        "upsampler": "pixelshuffle",
        "num_features": 8,
        "num_blocks": 2,
    }
}


def make_generator(name: str, scale: int) -> nn.Module:
    options = SMALL.get(name.rpartition("/")[2], {})
    return build_generator(Entry(name="test", summary="test", scale=scale, generator=ComponentRef.of(name, options)))


@pytest.mark.parametrize("name", BLOCKS)
@pytest.mark.parametrize("size", [(1, 8, 7, 5), (4, 8, 16, 16)])
def test_block_keeps_shape_and_gives_every_parameter_a_gradient(name: str, size: tuple[int, ...]) -> None:
    block = srzoo.create("block", name, channels=size[1])
    features = torch.randn(size, requires_grad=True)
    output = block(features)
    assert output.shape == features.shape
    assert torch.isfinite(output).all()
    (output * torch.randn_like(output)).sum().backward()
    for label, parameter in block.named_parameters():
        assert parameter.grad is not None, label
        assert parameter.grad.abs().sum() > 0, label


@pytest.mark.parametrize("name", UPSAMPLERS)
def test_upsampler_enlarges_by_every_declared_scale(name: str) -> None:
    spec = get_registry().get("upsampler", name).spec
    assert isinstance(spec, UpsamplerSpec)
    for scale in spec.scales:
        upsampler = srzoo.create("upsampler", name, channels=6, scale=scale)
        output = upsampler(torch.randn(2, 6, 5, 7))
        assert output.shape == (2, getattr(upsampler, "out_channels", 6), 5 * scale, 7 * scale)


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_enlarges_by_every_declared_scale_at_odd_sizes(name: str) -> None:
    for scale in get_registry().get("generator", name).spec.scales:
        generator = make_generator(name, scale).eval()
        lr = torch.rand(1, 3, 9, 11)
        with torch.no_grad():
            sr = generator(lr)
            assert sr.shape == (1, 3, 9 * scale, 11 * scale)
            assert torch.equal(sr, generator(lr)), "not deterministic in evaluation mode"


@pytest.mark.parametrize("name", GENERATORS)
def test_generator_treats_images_of_a_batch_independently_in_eval_mode(name: str) -> None:
    generator = make_generator(name, 4).eval()
    batch = torch.rand(3, 3, 8, 8)
    with torch.no_grad():
        together = generator(batch)
        alone = torch.cat([generator(image[None]) for image in batch])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("block", BLOCKS)
@pytest.mark.parametrize("upsampler", UPSAMPLERS)
def test_every_block_works_in_the_trunk_with_every_upsampler(block: str, upsampler: str) -> None:
    entry = Entry(
        name="test",
        summary="test",
        scale=4,
        generator=ComponentRef.of(
            "trunk", {"block": block, "upsampler": upsampler, "num_features": 8, "num_blocks": 2}
        ),
    )
    generator = build_generator(entry).to(memory_format=torch.channels_last)
    assert generator(torch.rand(2, 3, 6, 6)).shape == (2, 3, 24, 24)


def patch_size(spec: DiscriminatorSpec) -> int:
    if spec.input_size is not None:
        return spec.input_size
    size = max(spec.min_size, 32)
    return -(-size // spec.size_multiple) * spec.size_multiple


@pytest.mark.parametrize("name", DISCRIMINATORS)
def test_discriminator_gives_one_logit_an_image_or_a_map(name: str) -> None:
    spec = get_registry().get("discriminator", name).spec
    assert isinstance(spec, DiscriminatorSpec)
    size = patch_size(spec)
    discriminator = srzoo.create("discriminator", name, input_size=size)
    logits = discriminator(torch.rand(2, 3, size, size))
    assert logits.shape[:2] == (2, 1)
    assert logits.dim() == {"logit": 2, "map": 4}[spec.output]


def test_discriminators_with_a_fixed_size_refuse_other_patches_in_a_sentence() -> None:
    with pytest.raises(ValueError, match="128x128"):
        srzoo.create("discriminator", "vgg128")(torch.rand(1, 3, 64, 64))
    with pytest.raises(ValueError, match="96x96"):
        srzoo.create("discriminator", "srgan", input_size=96)(torch.rand(1, 3, 64, 64))


@pytest.mark.parametrize("size", [16, 17, 50, 96])
def test_srgan_discriminator_takes_any_patch_size(size: int) -> None:
    discriminator = srzoo.create("discriminator", "srgan", input_size=size, num_features=4, dense_features=8)
    assert discriminator(torch.rand(2, 3, size, size)).shape == (2, 1)


def test_timm_discriminator_takes_convolutional_and_transformer_backbones() -> None:
    for backbone, size in (("resnet10t", 48), ("vit_tiny_patch16_224", 64)):
        discriminator = srzoo.create("discriminator", "timm", backbone=backbone, input_size=size)
        assert discriminator(torch.rand(2, 3, size, size)).shape == (2, 1)


def test_timm_discriminator_names_the_nearest_backbone() -> None:
    with pytest.raises(srzoo.SrzooError, match="resnet18"):
        srzoo.create("discriminator", "timm", backbone="resnet-18", input_size=64)


@pytest.mark.parametrize(
    ("entry", "parameters", "source"),
    [
        ("esrgan-x4", 16_697_987, "RRDBNet, BasicSR and the ESRGAN repository"),
        ("msrresnet-x4", 1_517_571, "MSRResNet, BasicSR"),
        ("edsr-baseline-x4", 1_517_571, "EDSR baseline x4, EDSR-PyTorch"),
        ("edsr-x4", 43_089_923, "EDSR x4, EDSR-PyTorch"),
    ],
)
def test_parameter_counts_equal_the_published_ones(entry: str, parameters: int, source: str) -> None:
    with torch.device("meta"):
        generator = build_generator(get_zoo().entry(entry))
    assert sum(p.numel() for p in generator.parameters()) == parameters, source


def test_trunk_with_msrresnets_options_computes_what_its_definition_says() -> None:
    """Against BasicSR's definition, leaky ReLU 0.1 throughout, written out with plain functions."""
    import torch.nn.functional as F

    g = srzoo.create_generator("msrresnet-x4", num_blocks=2, num_features=8).eval()
    w = dict(g.named_parameters())

    def conv(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=w[f"{name}.weight"].shape[-1] // 2)

    lr = torch.rand(1, 3, 7, 9)
    x = F.leaky_relu(conv(lr, "head.0"), 0.1)
    for i in range(2):
        x = x + conv(F.relu(conv(x, f"blocks.{i}.body.0")), f"blocks.{i}.body.3")
    for i in (0, 3):
        x = F.leaky_relu(F.pixel_shuffle(conv(x, f"upsampler.steps.{i}"), 2), 0.1)
    x = conv(F.leaky_relu(conv(x, "hr_conv.0"), 0.1), "tail")
    expected = x + F.interpolate(lr, scale_factor=4, mode="bilinear", align_corners=False)
    torch.testing.assert_close(g(lr), expected, rtol=1e-5, atol=1e-6)


def test_trunk_with_rrdbnets_options_computes_what_its_definition_says() -> None:
    import torch.nn.functional as F

    block = {"name": "rrdb", "growth": 4}
    g = srzoo.create_generator("esrgan-psnr-x4", num_blocks=1, num_features=8, block=block).eval()
    w = dict(g.named_parameters())

    def conv(x: torch.Tensor, name: str) -> torch.Tensor:
        return F.conv2d(x, w[f"{name}.weight"], w[f"{name}.bias"], padding=1)

    lr = torch.rand(1, 3, 7, 9)
    head = x = conv(lr, "head.0")
    outer = x
    for i in range(3):
        seen = [x]
        for j in range(4):
            seen.append(F.leaky_relu(conv(torch.cat(seen, 1), f"blocks.0.dense_blocks.{i}.convs.{j}"), 0.2))
        x = x + 0.2 * conv(torch.cat(seen, 1), f"blocks.0.dense_blocks.{i}.convs.4")
    x = outer + 0.2 * x
    x = head + conv(x, "trunk_end.0")
    for i in range(2):
        x = F.leaky_relu(conv(F.interpolate(x, scale_factor=2, mode="nearest"), f"upsampler.convs.{i}"), 0.2)
    expected = conv(F.leaky_relu(conv(x, "hr_conv.0"), 0.2), "tail")
    torch.testing.assert_close(g(lr), expected, rtol=1e-5, atol=1e-6)


def test_srresnet_has_the_papers_layers() -> None:
    g = srzoo.create_generator("srresnet-mse-x4")
    convs = [m for m in g.modules() if isinstance(m, nn.Conv2d)]
    assert convs[0].kernel_size == convs[-1].kernel_size == (9, 9)
    assert len(convs) == 1 + 2 * 16 + 1 + 2 + 1
    assert sum(isinstance(m, nn.BatchNorm2d) for m in g.modules()) == 2 * 16 + 1
    assert sum(isinstance(m, nn.PReLU) for m in g.modules()) == 1 + 16 + 2


def test_small_initialisation_shrinks_the_blocks_only() -> None:
    torch.manual_seed(0)
    plain = srzoo.create_generator("esrgan-psnr-x4", num_blocks=1, init="default")
    small = srzoo.create_generator("esrgan-psnr-x4", num_blocks=1, init="blocks")
    fan_in = 64 * 9
    expected = 0.1 * (2 / fan_in) ** 0.5
    found = small.blocks[0].dense_blocks[0].convs[0].weight.std().item()
    assert found == pytest.approx(expected, rel=0.05)
    assert small.tail.weight.std().item() == pytest.approx(plain.tail.weight.std().item(), rel=0.1)


def test_a_scale_that_is_not_declared_is_refused() -> None:
    with pytest.raises(CompositionError, match="scales 1, 2, 3, 4, 8, not 5"):
        srzoo.create_generator("srresnet-mse-x4", scale=5)


@pytest.mark.parametrize("bad", [{"num_blocks": 0}, {"head_kernel": 4}, {"num_features": -1}])
def test_impossible_options_are_refused_with_the_components_name(bad: dict[str, int]) -> None:
    with pytest.raises(CompositionError, match="composable/trunk"):
        srzoo.create_generator("srresnet-mse-x4", **bad)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("num_features", [None, 3])
def test_nearest_and_conv_is_what_it_says_borders_and_gradients_included(scale: int, num_features: int | None) -> None:
    built = create(
        "upsampler", "nearest_conv", channels=5, scale=scale, where="test", num_features=num_features
    ).double()
    features = torch.rand(2, 5, 4, 7, dtype=torch.float64, requires_grad=True)
    wanted = features
    for factor, layer in zip(built.factors, built.convs, strict=True):
        wanted = F.leaky_relu(layer(F.interpolate(wanted, scale_factor=factor, mode="nearest")), 0.2)
    found = built(features)
    torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    given = [features, *built.parameters()]
    ways = torch.rand_like(found)
    for one, other in zip(
        torch.autograd.grad(found, given, ways), torch.autograd.grad(wanted, given, ways), strict=True
    ):
        torch.testing.assert_close(one, other, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("scale", [2, 3, 4])
@pytest.mark.parametrize("upsampler", ["pixelshuffle", "pixelshuffle_direct"])
def test_sub_pixel_convolutions_in_channels_last_are_pixel_shuffle(upsampler: str, scale: int) -> None:
    """There the shuffle moves whole pixels; result and gradients must be those of torch's own."""
    torch.manual_seed(0)
    built = create("upsampler", upsampler, channels=6, scale=scale, where="test")
    assert isinstance(built, nn.Module)
    features = torch.randn(2, 6, 5, 7, requires_grad=True)
    last = features.detach().to(memory_format=torch.channels_last).requires_grad_()
    wanted, found = built.steps(features), built.to(memory_format=torch.channels_last)(last)
    assert torch.allclose(found, wanted, atol=1e-6)
    assert found.is_contiguous(memory_format=torch.channels_last)
    weights = torch.randn_like(wanted)
    parameters = list(built.parameters())
    for one, two in zip(
        torch.autograd.grad(wanted, [features, *parameters], weights),
        torch.autograd.grad(found, [last, *parameters], weights),
        strict=True,
    ):
        assert torch.allclose(one, two, atol=1e-4)
