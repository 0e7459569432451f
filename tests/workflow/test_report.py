"""Snakemake's report of a finished run, as a reader sees it in a browser."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import expect

from tests import browser
from tests.workflow.conftest import tiny

pytestmark = pytest.mark.workflow


def rows(page):
    return page.locator("nav table tbody tr").all()


def look_at(page, row):
    """Presses the eye of a result and says what is shown: an image, or a page's heading."""
    row.locator("a").first.click()
    shown = page.locator("#app > div > div img, #app iframe").last
    shown.wait_for()
    if shown.evaluate("element => element.tagName") == "IMG":
        page.wait_for_function("document.querySelector('#app > div > div img')?.complete")
        assert shown.evaluate("image => image.naturalWidth") > 100
        return "image"
    heading = page.frame_locator("iframe").locator("h1")
    heading.wait_for()
    return heading.inner_text()


def test_every_page_of_the_report_opens(copy_of_finished):
    project = copy_of_finished
    project.snakemake("--report", "report.html", *tiny())
    with browser.opened(project.folder / "report.html") as page:
        # It opens on the answer, in view.
        heading = page.get_by_role("heading", name="What was found")
        heading.wait_for()
        assert 0 <= heading.bounding_box()["y"] < 100
        assert "This is so of signnet, smoke-code" in page.locator(".start .banner").inner_text()
        assert page.locator(".start svg rect").count() == 120  # the numbers that signnet prints
        assert page.locator("#rulegraph:visible").count() == 0
        seen = []
        categories = page.evaluate("categories")
        for category, parts in categories.items():
            for part, paths in parts.items():
                page.reload()
                page.locator("nav").get_by_text(category, exact=True).click()
                if len(parts) > 1:
                    page.locator("nav").get_by_text(part, exact=True).click()
                expect(page.locator("nav table tbody tr")).to_have_count(len(paths))
                seen += [look_at(page, row) for row in rows(page)]
        files = [f for parts in categories.values() for paths in parts.values() for f in paths]
        assert len(seen) == len(files) > 10
        assert seen.count("image") == sum(file.endswith(".png") for file in files) >= 3
        told = " | ".join(seen)
        for title in ("Table III", "Published and reproduced", "What signnet claims", "heartbeat"):
            assert title.lower() in told.lower(), told


def test_a_search_with_two_hits_shows_both(copy_of_finished):
    project = copy_of_finished
    project.snakemake("--report", "report.html", *tiny())
    with browser.opened(project.folder / "report.html") as page:
        page.get_by_role("heading", name="What was found").wait_for()
        page.evaluate("app.setView({navbarMode: 'searchresults', searchTerm: '/table'})")
        page.locator("nav table tbody tr").nth(1).wait_for()
        found = [row.inner_text() for row in rows(page)]
        assert len(found) >= 2 and any(re.search("Table III", text) for text in found), found


def test_links_of_the_start_page_open_results_and_those_of_other_runs(copy_of_finished):
    project = copy_of_finished
    project.snakemake("--report", "report.html", "signnet_tab3", *tiny())
    with browser.opened(project.folder / "report.html") as page:
        page.get_by_role("heading", name="What was found").wait_for()
        page.locator(".start td a", has_text="Table III").click()  # part of this report
        expect(page.frame_locator("iframe").locator("h1")).to_contain_text("Table III")
        page.reload()
        page.locator(".start td a", has_text="Table IV").click()  # brought along
        expect(page.frame_locator("iframe").locator("h1")).to_contain_text("Table IV")
