"""Metrics and protocols against scikit-image, MATLAB's reference scores and the lpips package."""

from __future__ import annotations

import csv
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lpips
import numpy as np
import pytest
import torch
import torchvision
from safetensors.torch import load_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from srzoo.compose import create
from srzoo.data import load_image_set
from srzoo.errors import (
    CompositionError,
    DataError,
    MissingWeightsError,
    PluginError,
    UndefinedScoreError,
    UnknownNameError,
    WeightsError,
)
from srzoo.inference import prepare
from srzoo.pretrained import load_model
from srzoo.protocol import PROTOCOLS, Protocol, apply_protocol
from srzoo.scoring import Metric, Reference, available_metrics, build_metric, mean_scores, score_set
from srzoo.specs import MetricSpec, WeightFile
from srzoo.weights import file_sha256

torch.set_num_threads(1)

CPU = torch.device("cpu")


def score(
    sr: torch.Tensor, hr: torch.Tensor, metrics: list[Metric], protocol: Protocol, scale: int, grey: bool
) -> dict[str, float]:
    return Reference(hr, metrics, protocol, scale, grey).score(sr)


def metric(name: str) -> Metric:
    return build_metric(name, CPU)


def images(height: int = 40, width: int = 32, seed: int = 0, grey: bool = False) -> tuple[torch.Tensor, torch.Tensor]:
    """A smooth image and a noisy version of it, (1, 3, H, W) uint8."""
    random = np.random.default_rng(seed)
    y, x = np.mgrid[0:height, 0:width]
    phase = np.zeros((3, 1, 1)) if grey else np.arange(3).reshape(3, 1, 1)
    hr = 127 + 90 * np.sin(x / 7 + phase) * np.cos(y / 5 + phase)
    sr = hr + random.normal(0, 12, (1 if grey else 3, height, width))
    pair = [torch.from_numpy(np.clip(np.rint(image), 0, 255).astype(np.uint8))[None] for image in (sr, hr)]
    return pair[0], pair[1]


def channels_last(image: torch.Tensor) -> np.ndarray:
    return image[0].permute(1, 2, 0).numpy()


def skimage_ssim(sr: torch.Tensor, hr: torch.Tensor) -> float:
    value = structural_similarity(
        channels_last(sr),
        channels_last(hr),
        channel_axis=2,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        data_range=1,
    )
    return float(value)


# --- PSNR and SSIM --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize("grey", [False, True], ids=["colour", "grey"])
@pytest.mark.parametrize(("height", "width"), [(40, 32), (27, 45), (19, 19)])
def test_psnr_and_ssim_equal_scikit_images(protocol: Protocol, grey: bool, height: int, width: int) -> None:
    sr, hr = images(height, width, seed=height, grey=grey)
    found = score(sr, hr, [metric("psnr"), metric("ssim")], protocol, scale=4, grey=grey)
    x, y = (apply_protocol(image, protocol, 4, grey) for image in (sr, hr))
    assert x.shape == (1, 3 if protocol == "rgb" else 1, height - 8, width - 8)
    psnr = peak_signal_noise_ratio(channels_last(y), channels_last(x), data_range=1)
    assert found["psnr"] == pytest.approx(psnr, abs=1e-6)
    assert found["ssim"] == pytest.approx(skimage_ssim(x, y), abs=1e-6)
    assert 15 < found["psnr"] < 40
    assert 0.2 < found["ssim"] < 0.99


def test_psnr_by_hand_without_uint8_wrap_around() -> None:
    hr = torch.full((1, 3, 12, 12), 250, dtype=torch.uint8)
    sr = torch.full((1, 3, 12, 12), 5, dtype=torch.uint8)
    for left, right in ((sr, hr), (hr, sr)):
        value = score(left, right, [metric("psnr")], "rgb", 2, False)["psnr"]
        assert value == pytest.approx(20 * math.log10(255 / 245), abs=1e-9)


def test_values_of_a_batch_are_those_of_its_images() -> None:
    pairs = [images(seed=seed) for seed in range(3)]
    sr, hr = (torch.cat([pair[side] for pair in pairs]).double() / 255 for side in (0, 1))
    for name in ("psnr", "ssim"):
        function = metric(name).function
        alone = torch.cat([function(sr[i : i + 1], hr[i : i + 1]) for i in range(3)])
        torch.testing.assert_close(function(sr, hr), alone, atol=1e-12, rtol=0)
        assert len(set(alone.tolist())) == 3


def test_equal_images_have_infinite_psnr_and_ssim_of_one() -> None:
    image, _ = images()
    for protocol in PROTOCOLS:
        found = score(image, image.clone(), [metric("psnr"), metric("ssim")], protocol, 4, False)
        assert found["psnr"] == math.inf
        assert found["ssim"] == pytest.approx(1, abs=1e-12)


@pytest.mark.parametrize("level", [0, 1, 127, 254, 255])
def test_ssim_never_exceeds_one(level: int) -> None:
    ssim = metric("ssim").function
    flat = torch.full((1, 3, 16, 16), level / 255, dtype=torch.float64)
    for other in (flat, flat + 1e-9, (flat + 1e-4).clamp(0, 1), flat.float()):
        assert ssim(flat, other).item() <= 1 + 1e-12
    for seed in range(5):
        noise = torch.rand(1, 3, 16, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
        for other in (noise, noise + 1e-7, noise.float()):
            assert ssim(noise, other).item() <= 1 + 1e-12


def test_ssim_of_an_image_and_its_negative_is_negative() -> None:
    image = torch.rand(1, 1, 16, 16, dtype=torch.float64)
    assert metric("ssim").function(image, 1 - image).item() < 0


@pytest.mark.parametrize("size", [(10, 40), (40, 10), (3, 3)])
def test_ssim_of_an_image_smaller_than_its_window_is_refused_as_scikit_image_does(size: tuple[int, int]) -> None:
    image = torch.rand(1, 3, *size, dtype=torch.float64)
    with pytest.raises(ValueError, match=rf"at least 11x11 .* not {size[1]}x{size[0]}"):
        metric("ssim").function(image, image)
    with pytest.raises(ValueError, match="win_size exceeds image"):
        skimage_ssim(image, image)


def test_ssim_takes_an_image_as_large_as_its_window() -> None:
    image = torch.rand(1, 1, 11, 11, dtype=torch.float64)
    assert metric("ssim").function(image, image * 0.9).item() == pytest.approx(skimage_ssim(image, image * 0.9), 1e-9)


def test_metric_that_is_not_defined_for_an_image_is_nan_and_the_others_still_come() -> None:
    sr, hr = images(18, 40)  # 10 x 32 inside the border
    found = score(sr, hr, [metric("ssim"), metric("psnr")], "y", 4, False)
    assert math.isnan(found["ssim"])
    assert found["psnr"] == pytest.approx(score(sr, hr, [metric("psnr")], "y", 4, False)["psnr"])


def test_ssim_window_must_be_odd() -> None:
    with pytest.raises(CompositionError, match="window_size must be odd, not 8"):
        create("metric", "ssim", window_size=8)


# --- protocols ------------------------------------------------------------------------------------------------


def test_protocols_cut_the_scale_and_make_luma_as_their_tables_do() -> None:
    image = torch.randint(0, 256, (1, 3, 20, 24), dtype=torch.uint8)
    inner = image[..., 3:-3, 3:-3].double()
    r, g, b = inner.unbind(dim=1)
    y = 16 + (65.481 * r + 128.553 * g + 24.966 * b) / 255
    torch.testing.assert_close(apply_protocol(image, "rgb", 3, False), inner / 255)
    torch.testing.assert_close(apply_protocol(image, "y", 3, False)[:, 0] * 255, y)
    torch.testing.assert_close(apply_protocol(image, "y-matlab", 3, False)[:, 0] * 255, y.round())
    assert apply_protocol(image, "y", 3, False).dtype == torch.float64


def test_grey_reference_is_compared_on_its_own_channel_by_y_matlab_only() -> None:
    grey = torch.randint(0, 256, (1, 1, 20, 24), dtype=torch.uint8).expand(1, 3, 20, 24)
    inner = grey[:, :1, 2:-2, 2:-2].double()
    torch.testing.assert_close(apply_protocol(grey, "y-matlab", 2, True) * 255, inner)
    torch.testing.assert_close(apply_protocol(grey, "y", 2, True) * 255, 16 + inner * 219 / 255)


@pytest.mark.parametrize("size", [(8, 40), (40, 8), (1, 1)])
def test_score_of_an_image_with_nothing_inside_the_border_is_undefined(size: tuple[int, int]) -> None:
    with pytest.raises(UndefinedScoreError, match=rf"{size[1]}x{size[0]} has nothing inside a border of 4"):
        apply_protocol(torch.zeros(1, 3, *size, dtype=torch.uint8), "y", 4, False)


def test_output_of_another_size_than_its_reference_is_refused() -> None:
    with pytest.raises(DataError, match=r"\(1, 3, 40, 32\) and its reference \(1, 3, 40, 36\)"):
        score(images(40, 32)[0], images(40, 36)[1], [metric("psnr")], "y", 4, False)


# --- against MATLAB -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def matlab(data_root: Path) -> dict[tuple[str, str], tuple[float, float]]:
    """PSNR and SSIM of MATLAB's bicubic by dataset and image."""
    with open(data_root / "reference" / "selfexsr_x4.csv", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["method"] == "bicubic"]
    return {(row["dataset"], row["image"]): (float(row["psnr_y"]), float(row["ssim_y"])) for row in rows}


def bicubic_scores(name: str, protocol: Protocol, metrics: tuple[str, ...] = ("psnr", "ssim")) -> dict[str, Any]:
    generator = prepare(load_model("bicubic").generator, CPU)
    built = [metric(m) for m in metrics]
    return {s.item.name: s.values for s in score_set(generator, load_image_set(name), built, protocol, 4)}


@pytest.mark.parametrize(
    ("name", "psnr", "ssim"), [("set5", 28.42, 0.8102), ("set14", 25.99, 0.702), ("bsd100", 25.96, 0.6673)]
)
def test_bicubic_agrees_with_matlab_image_by_image(
    matlab: dict[tuple[str, str], tuple[float, float]], name: str, psnr: float, ssim: float
) -> None:
    found = bicubic_scores(name, "y-matlab")
    assert {(name, image) for image in found} == {key for key in matlab if key[0] == name}
    for image, values in found.items():
        assert values["psnr"] == pytest.approx(matlab[name, image][0], abs=0.006), image
        assert values["ssim"] == pytest.approx(matlab[name, image][1], abs=0.0004), image
    means = mean_scores(list(found.values()))
    assert means["psnr"] == pytest.approx(psnr, abs=0.005)
    assert means["ssim"] == pytest.approx(ssim, abs=0.0005)


@pytest.mark.parametrize(("name", "psnr", "ssim"), [("set5", 28.43, 0.8113), ("set14", 26.09, 0.7049)])
def test_bicubic_under_todays_protocol_has_the_published_means(
    data_root: Path, name: str, psnr: float, ssim: float
) -> None:
    means = mean_scores(list(bicubic_scores(name, "y").values()))
    assert means["psnr"] == pytest.approx(psnr, abs=0.005)
    assert means["ssim"] == pytest.approx(ssim, abs=0.0005)


def test_the_two_luma_conventions_part_on_the_grey_image(data_root: Path) -> None:
    generator = prepare(load_model("bicubic").generator, CPU)
    whole = load_image_set("set14")
    chosen = type(whole)("two", tuple(item for item in whole if item.name in ("001", "003")))
    found = {
        protocol: {s.item.name: s.values["psnr"] for s in score_set(generator, chosen, [metric("psnr")], protocol, 4)}
        for protocol in ("y", "y-matlab")
    }
    assert found["y"]["003"] - found["y-matlab"]["003"] == pytest.approx(1.32, abs=0.01)
    assert abs(found["y"]["001"] - found["y-matlab"]["001"]) < 0.05


# --- LPIPS ----------------------------------------------------------------------------------------------------


def untrained_lpips(net: str) -> lpips.LPIPS:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it calls torchvision in a way that is deprecated
        return lpips.LPIPS(net=net, pnet_rand=True, verbose=False).eval()


@pytest.fixture(scope="module")
def reference_lpips(squeezenet: Path) -> Callable[[torch.Tensor, torch.Tensor], float]:
    """The package called directly, its backbone filled by hand: slice and index of each of torchvision's layers."""
    model = untrained_lpips("squeeze")
    features = load_file(squeezenet)
    own = model.net.state_dict()
    filled = {name: features["features." + name.partition(".")[2]] for name in own}
    model.net.load_state_dict(filled)
    assert len(filled) == len(features)

    def distance(sr: torch.Tensor, hr: torch.Tensor) -> float:
        with torch.inference_mode():
            return float(model(sr.float() / 127.5 - 1, hr.float() / 127.5 - 1))

    return distance


@pytest.mark.parametrize("size", [(40, 32), (67, 45), (128, 96)])
def test_lpips_squeeze_equals_the_package_called_directly(
    reference_lpips: Callable[[torch.Tensor, torch.Tensor], float], size: tuple[int, int]
) -> None:
    sr, hr = images(*size)
    found = score(sr, hr, [metric("lpips_squeeze")], "y", 4, False)["lpips_squeeze"]  # no crop, no luma
    assert found == pytest.approx(reference_lpips(sr, hr), abs=1e-6)
    assert found > 0.01


def test_lpips_squeeze_of_twenty_real_images_equals_the_package(
    reference_lpips: Callable[[torch.Tensor, torch.Tensor], float],
) -> None:
    generator = prepare(load_model("bicubic").generator, CPU)
    pairs = 0
    for name in ("set5", "set14", "bsd100"):
        whole = load_image_set(name)
        chosen = type(whole)(name, whole.items[: 20 - pairs])
        for found in score_set(generator, chosen, [metric("lpips_squeeze")], "y", 4):
            hr = torch.from_numpy(found.item.read_pair(4)[1].copy()).permute(2, 0, 1)[None]
            assert found.values["lpips_squeeze"] == pytest.approx(reference_lpips(found.sr, hr), abs=1e-6)
            assert found.values["lpips_squeeze"] > 0.1
            pairs += 1
    assert pairs == 20


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_reference_that_serves_several_outputs_gives_each_its_own_score(squeezenet: Path, protocol: Protocol) -> None:
    """In whatever order, with whatever subset of metrics asked before."""
    built = [metric(name) for name in ("psnr", "ssim", "lpips_squeeze")]
    near, hr = images(64, 48)
    far = images(64, 48, seed=1)[0].flip(-1)
    reference = Reference(hr, built, protocol, 4, False)
    assert set(reference.score(near, ["ssim"])) == {"ssim"}
    both = [reference.score(image) for image in (far, near, hr)]
    alone = [score(image, hr, built, protocol, 4, False) for image in (far, near, hr)]
    assert both == alone
    assert both[0]["psnr"] < both[1]["psnr"] < both[2]["psnr"] == float("inf")
    assert both[0]["lpips_squeeze"] > both[1]["lpips_squeeze"] > both[2]["lpips_squeeze"]


def test_a_metric_of_others_may_prepare_its_reference(squeezenet: Path) -> None:
    class Counted:
        prepared = 0

        def reference(self, hr: torch.Tensor) -> torch.Tensor:
            self.prepared += 1
            return hr.mean(dim=(1, 2, 3))

        def against(self, sr: torch.Tensor, prepared: torch.Tensor) -> torch.Tensor:
            return (sr.mean(dim=(1, 2, 3)) - prepared).abs()

        def __call__(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
            raise AssertionError("the two methods take its place")

    counted = Counted()
    sr, hr = images()
    reference = Reference(hr, [third_party(counted)], "y", 4, False)
    assert [reference.score(image)["mine"] for image in (hr, sr, hr)] == [0.0, pytest.approx(0, abs=0.1), 0.0]
    assert counted.prepared == 1


def test_lpips_of_equal_images_is_zero_and_grows_with_the_noise(squeezenet: Path) -> None:
    sr, hr = images()
    built = [metric("lpips_squeeze")]
    near = ((sr.int() + 3 * hr.int()) // 4).to(torch.uint8)
    values = [score(image, hr, built, "y", 4, False)["lpips_squeeze"] for image in (hr, near, sr)]
    assert values[0] == pytest.approx(0, abs=1e-7)
    assert values[0] < values[1] < values[2]


def test_lpips_of_an_image_too_small_for_its_backbone_is_nan(squeezenet: Path) -> None:
    sr, hr = images(12, 12)
    found = score(sr, hr, [metric("lpips_squeeze"), metric("psnr")], "rgb", 2, False)
    assert math.isnan(found["lpips_squeeze"])
    assert found["psnr"] > 0


@pytest.fixture
def no_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty machine; returns the folder that weights should go to."""
    monkeypatch.setenv("SRZOO_DATA", str(tmp_path / "shared" / "data"))
    monkeypatch.setenv("SRZOO_WEIGHTS", str(tmp_path / "mine"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "mine"


@pytest.mark.parametrize(
    ("name", "filename"),
    [
        ("lpips_alex", "alexnet-owt-7be5be79.pth"),
        ("lpips_vgg", "vgg16-397923af.pth"),
        ("lpips_squeeze", "squeezenet1_1_features.safetensors"),
    ],
)
def test_lpips_without_its_backbone_says_which_file_to_put_where(no_weights: Path, name: str, filename: str) -> None:
    with pytest.raises(MissingWeightsError) as caught:
        metric(name)
    message = str(caught.value)
    assert f"{name} is not available: put " in message
    assert filename in message
    assert f"into {no_weights}." in message


def test_metrics_that_cannot_be_computed_are_reported_and_the_others_kept(no_weights: Path) -> None:
    found, missing = available_metrics(["ssim", "lpips_squeeze", "psnr", "lpips_alex"], CPU)
    assert [m.name for m in found] == ["ssim", "psnr"]
    assert list(missing) == ["lpips_squeeze", "lpips_alex"]
    assert "alexnet-owt-7be5be79.pth" in missing["lpips_alex"]


def test_misspelt_metric_is_an_error_even_where_missing_ones_are_tolerated() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'psnr'"):
        available_metrics(["psnrr"], CPU)


@pytest.mark.parametrize(
    ("name", "filename"), [("lpips_alex", "alexnet-owt-7be5be79.pth"), ("lpips_vgg", "vgg16-397923af.pth")]
)
def test_lpips_loads_torchvisions_own_file_checked_by_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, filename: str
) -> None:
    """With weights made here, since the real ones cannot be had without a network."""
    net, constant, build = {
        "lpips_alex": ("alex", "ALEXNET", torchvision.models.alexnet),
        "lpips_vgg": ("vgg", "VGG16", torchvision.models.vgg16),
    }[name]
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {k: v.shape for k, v in build(weights=None).state_dict().items() if k.startswith("features.")}
    weights = {key: torch.randn(shape) * 0.05 for key, shape in shapes.items()}
    torch.save({**weights, "classifier.6.bias": torch.zeros(1000)}, tmp_path / filename)
    monkeypatch.setenv("SRZOO_WEIGHTS", str(tmp_path))
    with pytest.raises(WeightsError, match=rf"{filename} is damaged or another file"):
        metric(name)

    here = WeightFile(filename, file_sha256(tmp_path / filename)[:8])
    monkeypatch.setattr(f"srzoo_metrics.lpips_metric.{constant}", (here,))
    reference = untrained_lpips(net)
    reference.net.load_state_dict({k: weights["features." + k.partition(".")[2]] for k in reference.net.state_dict()})
    sr, hr = images(64, 64)
    with torch.inference_mode():
        expected = float(reference(sr.float() / 127.5 - 1, hr.float() / 127.5 - 1))
    found = score(sr, hr, [metric(name)], "y", 4, False)[name]
    assert found == pytest.approx(expected, abs=1e-6)
    assert found > 0


# --- metrics of others ----------------------------------------------------------------------------------------


def third_party(function: Callable[..., Any], domain: Any = "protocol") -> Metric:
    return Metric(
        "mine",
        "other/mine",
        MetricSpec("mine", function, summary="a metric of another package", domain=domain),
        function,
    )


@pytest.mark.parametrize(
    "rubbish",
    [
        0.5,
        None,
        "0.5",
        torch.tensor(0.5),
        torch.tensor([0.5, 0.5]),
        torch.tensor([[0.5]]),
        torch.zeros(0),
        torch.tensor([math.nan]),
        torch.tensor([1j]),
    ],
    ids=repr,
)
def test_metric_that_returns_something_else_than_one_value_is_a_plugin_error(rubbish: Any) -> None:
    sr, hr = images()
    with pytest.raises(PluginError, match="metric 'mine'"):
        score(sr, hr, [metric("psnr"), third_party(lambda a, b: rubbish)], "y", 4, False)


def test_metric_that_fails_is_a_plugin_error_that_quotes_it() -> None:
    def broken(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        raise KeyError("no such table")

    sr, hr = images()
    with pytest.raises(PluginError, match=r"metric 'mine' failed: KeyError: .*no such table.*test_metrics\.py, line"):
        score(sr, hr, [third_party(broken)], "y", 4, False)


def test_metric_gets_what_its_domain_promises() -> None:
    seen: dict[str, list[torch.Tensor]] = {"protocol": [], "rgb": []}

    def spy(domain: str) -> Metric:
        def function(sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
            seen[domain] += [sr, hr]
            return torch.zeros(1)

        return third_party(function, domain)

    sr, hr = images()
    score(sr, hr, [spy("protocol"), spy("rgb")], "y", 4, False)
    for image in seen["protocol"]:
        assert (image.shape, image.dtype) == ((1, 1, 32, 24), torch.float64)
    for image, source in zip(seen["rgb"], (sr, hr), strict=True):
        assert image.dtype == torch.float32
        torch.testing.assert_close(image, source / 255)


def test_mean_leaves_out_what_is_not_defined() -> None:
    nan = math.nan
    means = mean_scores(
        [{"a": 1.0, "b": nan, "c": nan}, {"a": 3.0, "b": 5.0, "c": nan}, {"a": 8.0, "b": 6.0, "c": nan}]
    )
    assert means["a"] == 4.0
    assert means["b"] == 5.5
    assert math.isnan(means["c"])
    assert mean_scores([]) == {}
