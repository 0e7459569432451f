"""Figures whose layout differs in the last bits are equal files."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.layout_engine import ConstrainedLayoutEngine
from medrobust.reporting import plotting


class Shaken(ConstrainedLayoutEngine):
    """Constrained layout, off by what an other order of sums may make."""

    error = 0.0

    def execute(self, fig):
        super().execute(fig)
        for axes in fig.axes:
            left, bottom, width, height = axes.get_position(original=True).bounds
            box = [left + self.error, bottom - self.error, width + self.error, height]
            axes._set_position(box, which="original")


def svg(error: float, settled: bool) -> bytes:
    with plotting.style():
        figure = plotting.new_figure(height=3)
        engine = Shaken()
        engine.error = error
        figure.set_layout_engine(engine)
        grid = figure.subplots(2, 3, sharex=True)
        for k, axes in enumerate(grid.ravel()):
            axes.plot(np.sin(np.arange(20) * k), label=f"{k}")
            axes.set_ylabel("Amplitude")
        picture = grid[1][2].imshow(np.eye(3))
        figure.colorbar(picture, ax=grid[1][2])
        figure.legend(loc="outside upper center", ncols=3)
        if settled:
            plotting.settle(figure)
        file = io.BytesIO()
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()


def test_the_last_bits_of_a_layout_leave_no_trace():
    assert svg(0.0, False) != svg(3e-9, False), "this error is not seen anyway"
    same = svg(0.0, True)
    assert svg(3e-9, True) == same == svg(-3e-9, True)


def test_settling_moves_nothing_to_be_seen():
    with plotting.style():
        figure = plotting.new_figure(height=3)
        axes = figure.subplots(1, 2)
        axes[0].set_title("A title")
        figure.set_dpi(plotting.DPI)
        figure.draw_without_rendering()
        before = [one.get_position().bounds for one in axes]
        figure.set_dpi(100)
        plotting.settle(figure)
        after = [one.get_position().bounds for one in axes]
    assert figure.get_dpi() == 100
    assert np.abs(np.subtract(before, after)).max() == pytest.approx(0, abs=1e-4)
    assert all(value == round(value, 4) for box in after for value in box[:2])
