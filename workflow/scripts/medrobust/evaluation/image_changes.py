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
    scikit-image computes it.

    Args:
        originals, changed: ``[n, channels, height, width]`` finite numbers, at least 11 pixels a
            side.
        value_range: the largest value that a pixel can have minus the smallest.

    Returns:
        float64 ``[n]`` in [-1, 1]; 1 for equal images.
    """
    from skimage.metrics import structural_similarity as of_one  # slow to import

    # The settings of Wang et al., section III.B: a Gaussian window of 11 x 11 pixels, sigma 1.5.
    as_published = {"gaussian_weights": True, "sigma": 1.5, "use_sample_covariance": False}
    pairs = zip(
        np.asarray(originals, dtype=np.float64), np.asarray(changed, dtype=np.float64), strict=True
    )
    return np.array(
        [of_one(x, y, channel_axis=0, data_range=value_range, **as_published) for x, y in pairs]
    )


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
