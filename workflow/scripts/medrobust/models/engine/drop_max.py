"""Drop-max pooling: of each window the second largest value.

Mirst (Sun et al. 2022, MIRST-DM), section 3.2: the largest value of a window is what an attack
moves the easiest, so it is removed and the second largest handed on, in place of the first pooling
of ResNet-50. Its size is that of the pooling it replaces: windows of 3 by 3 values, 2 apart, around
the values of even row and column. What lies outside of a map is minus infinity, so a window at the
border has 4 or 6 values.

Values count as often as they occur: where the largest occurs twice, it is also the second largest.
Of equal values the first counts, row by row. A window of a single value, which only maps of one
value have, gives that value. A window with a NaN gives NaN, as PyTorch's pooling does.

The gradient goes to the value that was selected, all of it. Which one that is, is found without
autograd; then the values are gathered, which autograd can go through as often as need be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

#: Rows and columns from the middle of a window to its values, row by row.
_SHIFTS = [(row, column) for row in (-1, 0, 1) for column in (-1, 0, 1)]


def drop_max_pool(maps: torch.Tensor) -> torch.Tensor:
    """Returns the second largest value of each window.

    Args:
        maps: ``[n, k, h, w]``, any floating-point type.

    Returns:
        ``[n, k, (h + 1) // 2, (w + 1) // 2]``, contiguous.
    """
    import torch

    maps = maps.contiguous()
    with torch.no_grad():
        values, places = _second_largest(maps.detach())
    selected = maps.flatten(2).gather(2, places.flatten(2)).view(places.shape)
    return torch.where(values.isnan(), values, selected)


def _second_largest(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns second largest values and their places.

    Returns:
        values, minus infinity where a window has one alone, and places in the rows of the map, row
        by row, int64; both ``[n, k, (h + 1) // 2, (w + 1) // 2]``.
    """
    import torch

    # Apart, values that are 2 apart lie side by side, as a processor wants them.
    parts = {(a, b): maps[:, :, a::2, b::2].contiguous() for a in (0, 1) for b in (0, 1)}
    first = parts[0, 0].clone()
    second = torch.full_like(first, -torch.inf)
    for shift in _SHIFTS:
        if shift == (0, 0):
            continue
        windows, seen = _meeting(parts, shift)
        largest, next_largest = first[windows], second[windows]
        torch.maximum(next_largest, torch.minimum(largest, seen), out=next_largest)
        torch.maximum(largest, seen, out=largest)
    height, width = maps.shape[2:]
    away = torch.zeros_like(second, dtype=torch.int32)
    # From the last to the first, so that the first of equal values stays.
    for shift in reversed(_SHIFTS):
        windows, seen = _meeting(parts, shift)
        away[windows].masked_fill_(seen == second[windows], shift[0] * width + shift[1])
    rows, columns = (torch.arange(0, size, 2, device=maps.device) for size in (height, width))
    return second, (rows[:, None] * width + columns) + away


def _meeting(
    parts: dict[tuple[int, int], torch.Tensor], shift: tuple[int, int]
) -> tuple[tuple[slice, ...], torch.Tensor]:
    """Returns which windows have a value at a shift from their middle, and these values.

    Args:
        parts: the values of even and odd rows (0 and 1) and columns.
        shift: rows and columns, each -1, 0 or 1.
    """
    part = parts[shift[0] % 2, shift[1] % 2]
    windows, values = [slice(None)] * 2, [slice(None)] * 2
    sizes = zip(parts[0, 0].shape[2:], part.shape[2:], shift, strict=True)
    for middles, there, away in sizes:
        # Row or column 2 i + away is number i of its part, or i - 1 where away is -1.
        start, stop = (1, there + 1) if away < 0 else (0, there)
        windows.append(slice(start, min(stop, middles)))
        values.append(slice(0, min(stop, middles) - start))
    return tuple(windows), part[tuple(values)]
