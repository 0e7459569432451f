"""What an adversarial image looks like beside its original, as numbers.

The sign-network paper describes its Figure 1 in words ("the dottiest", "visually
distinguishable"). The measures here are common ones of image processing; that they stand for its
words is our reading:

* *total variation* (Rudin, Osher and Fatemi 1992, in its anisotropic form, as a mean): the mean
  difference of neighbouring pixels, which dots raise;
* *structural similarity* (Wang, Bovik, Sheikh and Simoncelli 2004): 1 for equal images, lower
  where brightness, contrast or structure differ in windows of 11 pixels;
* *high-frequency share*: the part of a change's energy that is finer than four pixels.

Nothing here knows of models or attacks.
"""

from __future__ import annotations

import numpy as np

#: Standard deviation in pixels of the Gaussian window of structural similarity, where it is cut
#: (11 x 11 pixels), and its two constants (Wang et al. 2004, section III.B).
SIGMA, RADIUS, K1, K2 = 1.5, 5, 0.01, 0.03
#: Cycles per pixel above which a frequency is high: the finest are 0.5 along an axis.
HIGH_FREQUENCY = 0.25


def total_variation(images: np.ndarray) -> np.ndarray:
    """Returns the mean absolute difference of neighbouring pixels, over directions and channels.

    Args:
        images: ``[n, channels, height, width]`` finite numbers, at least two pixels a side.

    Returns:
        float64 ``[n]`` in the units of the images; 0 for images of one value per channel.
    """
    images = np.asarray(images, dtype=np.float64)
    rows = np.abs(np.diff(images, axis=2)).reshape(len(images), -1)
    columns = np.abs(np.diff(images, axis=3)).reshape(len(images), -1)
    return np.concatenate([rows, columns], axis=1).mean(axis=1)


def structural_similarity(
    originals: np.ndarray, changed: np.ndarray, value_range: float = 1.0
) -> np.ndarray:
    """Returns the mean structural similarity of each image with its original.

    Per channel, then the mean over channels. Windows that reach beyond the image are left out.

    Args:
        originals, changed: ``[n, channels, height, width]`` finite numbers, at least 11 pixels a
            side.
        value_range: the largest value that a pixel can have minus the smallest.

    Returns:
        float64 ``[n]`` in [-1, 1]; 1 for equal images.
    """
    x, y = (np.asarray(images, dtype=np.float64) for images in (originals, changed))
    mean_x, mean_y = _window_means(x), _window_means(y)
    variances = (_window_means(x * x) - mean_x**2) + (_window_means(y * y) - mean_y**2)
    covariance = _window_means(x * y) - mean_x * mean_y
    first, second = (K1 * value_range) ** 2, (K2 * value_range) ** 2
    similarity = (2 * mean_x * mean_y + first) * (2 * covariance + second)
    similarity /= (mean_x**2 + mean_y**2 + first) * (variances + second)
    inside = similarity[:, :, RADIUS:-RADIUS, RADIUS:-RADIUS]
    return inside.mean(axis=(1, 2, 3))


def _window_means(images: np.ndarray) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    return gaussian_filter(images, SIGMA, axes=(2, 3), radius=RADIUS)


def high_frequency_share(changes: np.ndarray, above: float = HIGH_FREQUENCY) -> np.ndarray:
    """Returns the share of each change's energy at frequencies above ``above``.

    Independent noise has the share of such frequencies, 1 - pi / 16 = .80 by default.

    Args:
        changes: ``[n, channels, height, width]`` finite numbers, adversarial minus original.
        above: cycles per pixel, of whatever direction.

    Returns:
        float64 ``[n]`` in [0, 1]; 0 where nothing changes.
    """
    changes = np.asarray(changes, dtype=np.float64)
    energy = np.abs(np.fft.fft2(changes)) ** 2
    rows, columns = (np.fft.fftfreq(size) for size in changes.shape[2:])
    high = np.hypot(rows[:, None], columns[None, :]) > above
    total = energy.sum(axis=(1, 2, 3))
    share = energy[:, :, high].sum(axis=(1, 2)) / np.where(total == 0, 1.0, total)
    return np.where(total == 0, 0.0, share)
