"""How panels are laid out."""

from __future__ import annotations

import pytest
from medrobust.reporting.plotting import panels_across


@pytest.mark.parametrize("most", [3, 4, 5])
def test_no_panel_is_alone_in_the_last_row(most: int) -> None:
    for panels in range(2, 25):
        columns = panels_across(panels, most)
        assert 1 <= columns <= most + 1
        unavoidable = all(panels % other == 1 for other in range(2, most + 2))  # 13 on 4
        assert columns == panels or panels % columns != 1 or unavoidable, (panels, columns)


def test_the_widest_layout_that_does_is_kept() -> None:
    # The six models of signnet and the original; the two parts of a grid of 12; one panel.
    assert [panels_across(n, 3) for n in (7, 12, 6, 4, 1)] == [4, 3, 3, 2, 1]
