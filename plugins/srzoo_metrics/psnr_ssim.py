"""PSNR and SSIM of images in [0, 1], (N, C, H, W) float64, one value an image."""

from __future__ import annotations

import torch

from srzoo.errors import UndefinedScoreError


class PSNR:
    """10 log10(1 / mean squared error) in dB; infinite for equal images."""

    def __call__(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        error = (sr - hr).square().mean(dim=(1, 2, 3))
        return 10 * torch.log10(1 / error)


class SSIM:
    """SSIM of Wang et al. 2004 as the field's tables have it: Gaussian window, valid region, population covariance.

    Args:
        window_size: side of the window in pixels.
        sigma: deviation of the Gaussian in pixels.
        k1: stabiliser of the luminance term.
        k2: stabiliser of the contrast term.
    """

    def __init__(self, window_size: int = 11, sigma: float = 1.5, k1: float = 0.01, k2: float = 0.03) -> None:
        if window_size % 2 == 0:
            raise ValueError(f"window_size must be odd, not {window_size}")
        offsets = torch.arange(window_size, dtype=torch.float64) - window_size // 2
        window = torch.exp(-offsets.square() / (2 * sigma**2))
        self.window: list[float] = (window / window.sum()).tolist()
        self.c1, self.c2 = k1**2, k2**2

    def __call__(self, sr: torch.Tensor, hr: torch.Tensor) -> torch.Tensor:
        """Return the mean of the SSIM map.

        Raises:
            UndefinedScoreError: an image is smaller than the window.
        """
        return self.against(sr, self.reference(hr))

    def reference(self, hr: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return the reference with its local mean and variance."""
        height, width = hr.shape[-2:]
        side = len(self.window)
        if min(height, width) < side:
            raise UndefinedScoreError(
                f"SSIM needs at least {side}x{side} pixels inside the border, not {width}x{height}"
            )
        y = hr.double()
        mean = self._blur(y)
        return y, mean, self._blur(y * y) - mean**2

    def against(self, sr: torch.Tensor, reference: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """Return the mean of the SSIM map against a reference that :meth:`reference` prepared."""
        y, mean_y, variance_y = reference
        x = sr.double()
        mean_x = self._blur(x)
        variance_x = self._blur(x * x) - mean_x**2
        covariance = self._blur(x * y) - mean_x * mean_y
        luminance = (2 * mean_x * mean_y + self.c1) / (mean_x**2 + mean_y**2 + self.c1)
        contrast = (2 * covariance + self.c2) / (variance_x + variance_y + self.c2)
        return (luminance * contrast).mean(dim=(1, 2, 3))

    def _blur(self, image: torch.Tensor) -> torch.Tensor:
        """Correlate with the window, valid region only.

        As sums of shifted images: torch's float64 convolution of a single channel takes eight times as long.
        """
        for axis in (2, 3):
            length = image.shape[axis] - len(self.window) + 1
            total = self.window[0] * image.narrow(axis, 0, length)
            for shift, weight in enumerate(self.window[1:], start=1):
                total.add_(image.narrow(axis, shift, length), alpha=weight)
            image = total
        return image
