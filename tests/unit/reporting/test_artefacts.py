"""Tables and figures: contents, escapes, marks, provenance, equal bytes."""

import dataclasses
import json
import os
import re
import subprocess
import sys

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from medrobust.core import io
from medrobust.core.errors import InputError
from medrobust.reporting import artefacts, plotting
from medrobust.reporting.artefacts import Panel, RunContext

CONTEXT = RunContext(
    study="signnet",
    scale="laptop",
    protocol="code",
    run="laptop-code",
    commit="0123456789abcdef",
    config_hash="c0ffee",
    versions={"numpy": "2.4"},
    hardware="2 cores",
    seed=11,
    command="snakemake table4",
)
REAL = {"MIT-BIH": "kaggle"}
MADE = {"PTBD": "physionet", "MIT-BIH": "standin"}
STATED = {"title": "Table IV", "caption": "What it is.", "n": "21 points", "budget": "HSJ, 10 runs"}


def table(tmp_path, frame=None, sources=REAL, **more):
    frame = pd.DataFrame({"model": ["MLP", "a_b"], "l2": [0.5, np.nan]}) if frame is None else frame
    settings = {**STATED, "context": CONTEXT, "sources": sources, **more}
    return artefacts.write_table_artefact(tmp_path / "t", frame, **settings)


def figure(tmp_path, sources=REAL, name="f", **more):
    with plotting.style():
        drawing = plotting.new_figure(3.5, 2.5)
        axes = drawing.subplots()
        axes.plot([0, 1, 2], [1, 3, 2], label="MLP", **plotting.model_style("MLP"))
        axes.set_xlabel("Time (s)")
        axes.legend()
    drawn = pd.DataFrame({"x": [0, 1, 2], "y": [1, 3, 2]})
    settings = {**STATED, "context": CONTEXT, "sources": sources, **more}
    return drawing, artefacts.write_figure_artefact(tmp_path / name, drawing, drawn, **settings)


# --- captions ---


@pytest.mark.parametrize("suffix", [".md", ".html", ".tex"])
def test_every_table_states_the_run(tmp_path, suffix):
    table(tmp_path)
    text = (tmp_path / f"t{suffix}").read_text()
    for fact in ("scale laptop", "protocol code", "Kaggle release", "21 points", "HSJ, 10 runs"):
        assert fact in text
    assert "SYNTHETIC" not in text


@pytest.mark.parametrize("suffix", [".md", ".html", ".tex", ".provenance.json"])
def test_amounts_unlike_the_papers_are_stated(tmp_path, suffix):
    table(tmp_path)
    assert "unlike the paper" not in (tmp_path / f"t{suffix}").read_text()
    less = dataclasses.replace(
        CONTEXT, unlike_the_paper="Amounts unlike the paper's: restarts 3 (the paper: 10)."
    )
    table(tmp_path, context=less)
    text = (tmp_path / f"t{suffix}").read_text()
    assert "unlike the paper" in text and "restarts 3 (the paper: 10)" in text


def test_stand_ins_are_marked_everywhere(tmp_path):
    frame = pd.DataFrame({"model": ["a", "b", "c"], "source": ["standin", "physionet", ""]})
    table(tmp_path, frame, MADE)
    assert pd.read_csv(tmp_path / "t.csv", keep_default_na=False)["data"].tolist() == [
        "SYNTHETIC",
        "real",
        "",
    ]
    for suffix in (".md", ".html", ".tex"):
        text = (tmp_path / f"t{suffix}").read_text()
        assert "SYNTHETIC DATA: Table IV" in text
        assert "evidence of nothing" in text
    provenance = json.loads((tmp_path / "t.provenance.json").read_text())
    assert provenance["synthetic"] is True
    assert provenance["title"].startswith("SYNTHETIC")


def test_a_table_without_sources_per_row_is_marked_as_a_whole(tmp_path):
    table(tmp_path, sources=MADE)
    assert pd.read_csv(tmp_path / "t.csv")["data"].tolist() == ["SYNTHETIC"] * 2
    table(tmp_path)
    assert pd.read_csv(tmp_path / "t.csv")["data"].tolist() == ["real"] * 2


def test_sums_of_sources_and_unknown_sources():
    assert artefacts.is_synthetic("kaggle+standin")
    assert not artefacts.is_synthetic("kaggle+physionet")
    with pytest.raises(InputError, match="unknown") as error:
        artefacts.check_sources({"MIT-BIH": "kagle"})
    assert "kaggle" in str(error.value)


def test_describe_attack():
    settings = {"norm": 2, "init_size": 1000, "targeted": False, "early": True, "start": None}
    assert artefacts.describe_attack("HSJ", settings) == "HSJ (norm 2, init size 1,000, early)"
    assert artefacts.describe_attack("none", {}) == "none"
    assert artefacts.describe_attack("hopskipjump", {}) == "HopSkipJump"
    fewer = {"CNN": {"restarts": 3, "max_iter": 50}, "tiles": {"start": "fixed"}}
    others = {"others": fewer | {"ResNet18": fewer["CNN"]}}
    assert artefacts.describe_attack("HSJ", {"restarts": 10} | others) == (
        "HSJ (restarts 10; CNN, ResNet18: restarts 3, max iter 50; tiles: start fixed)"
    )
    assert artefacts.describe_attack("HSJ", others).startswith("HSJ (CNN, ResNet18: restarts 3")


def test_numbers():
    assert artefacts.number(0.1, 2) == "0.10"
    assert artefacts.number(None, 2) == artefacts.number(float("nan"), 2) == "–"
    assert artefacts.with_interval(0.15, 0.1, float("inf"), 2) == "0.15 [0.10, ∞]"
    assert artefacts.with_interval(0.15, None, None, 2) == "0.15"


# --- tables ---


def test_csv_holds_the_numbers_in_full(tmp_path):
    value = 0.1234567890123456
    table(tmp_path, pd.DataFrame({"l2": [value]}))
    assert pd.read_csv(tmp_path / "t.csv")["l2"][0] == value


def test_markdown_is_a_table_with_cells_taken_literally(tmp_path):
    frame = pd.DataFrame({"model": ["a|b", "<i>c</i>", "_x_\ny"], "value": ["1", "[2]", "*"]})
    text = artefacts.markdown_table(frame)
    lines = text.splitlines()
    assert len(lines) == 5
    assert lines[1] == "|---|---:|"
    for line in lines:
        assert len(re.findall(r"(?<!\\)\|", line)) == 3
    assert r"a\|b" in text and "&lt;i&gt;" in text and r"\_x\_ y" in text and r"\[2\]" in text


@given(st.text(alphabet=st.characters(exclude_categories=["Cs"]), max_size=40))
def test_latex_has_no_bare_special(text):
    escaped = artefacts.latex_escape(text)
    bare = re.sub(r"\\(textbackslash|text\w+|ldots)\{\}|\\textsubscript\{\d\}", "", escaped)
    bare = re.sub(r"\$\\?[a-z-]+\$|\\,|\\[&%$#_{}]|\{[\[\]*]\}|~", "", bare)
    assert not set(bare) & set('\\&%$#_{}^"<>|[]*\n')


def test_latex_reads_back(tmp_path):
    columns = pd.MultiIndex.from_tuples([("", "model"), ("A & B", "x"), ("A & B", "y"), ("C", "x")])
    frame = pd.DataFrame([["MLP", "1", "[2]", "3"], ["*own", "5 %", "6_7", "≥ 8"]], columns=columns)
    panels = [Panel(frame, sections={1: "Added #1"}), Panel(frame, title="More")]
    table(tmp_path, panels=panels, notes=["50 % & more"])
    text = (tmp_path / "t.tex").read_text()
    for name in ("table", "tabular", "minipage"):
        assert text.count(rf"\begin{{{name}}}") == text.count(rf"\end{{{name}}}") > 0
    unescaped = re.sub(r"\\[{}]", "", text)
    assert unescaped.count("{") == unescaped.count("}")
    body = text.split(r"\midrule", 1)[1].split(r"\bottomrule", 1)[0]
    rows = [line for line in body.splitlines() if line.endswith(r"\\")]
    assert rows[0] == r"MLP & 1 & {[}2{]} & 3 \\"
    assert rows[1] == r"\multicolumn{4}{l}{\emph{Added \#1}} \\"
    assert rows[2] == r"{*}own & 5 \% & 6\_7 & $\geq$ 8 \\"
    assert r"\multicolumn{2}{c}{A \& B}" in text
    assert r"\cmidrule(lr){2-3} \cmidrule(lr){4-4}" in text
    assert r"50 \% \& more\par" in text


def test_provenance_names_run_files_and_inputs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    source = tmp_path / "data" / "chunk0.parquet"
    io.write_table(source, pd.DataFrame({"a": [1]}))
    outside = tmp_path.parent / "elsewhere.csv"
    outside.write_text("x")
    files = table(tmp_path, inputs=[source, outside])
    provenance = json.loads((tmp_path / "t.provenance.json").read_text())
    assert provenance["run"]["commit"] == CONTEXT.commit
    assert provenance["run"]["versions"] == {"numpy": "2.4"}
    assert provenance["sources"] == REAL
    assert provenance["files"] == {
        path.name: io.sha256_of_file(path) for path in files if path.suffix != ".json"
    }
    assert provenance["inputs"][0] == {
        "path": "data/chunk0.parquet",
        "sha256": io.sha256_of_file(source),
    }
    assert provenance["inputs"][1]["path"] == "elsewhere.csv"
    assert str(tmp_path) not in (tmp_path / "t.provenance.json").read_text()
    with pytest.raises(InputError, match="does not exist"):
        table(tmp_path, inputs=["gone.csv"])


def test_a_stem_with_a_dot_keeps_it(tmp_path):
    files = artefacts.write_table_artefact(
        tmp_path / "eps0.1", pd.DataFrame({"a": [1]}), context=CONTEXT, sources=REAL, **STATED
    )
    assert [file.name for file in files][:2] == ["eps0.1.csv", "eps0.1.md"]


# --- figures ---


def test_figure_files_and_their_metadata(tmp_path):
    from PIL import Image

    _, files = figure(tmp_path)
    assert [file.name for file in files] == [
        *("f.pdf", "f.png", "f.svg", "f.csv"),
        "f.provenance.json",
    ]
    with Image.open(tmp_path / "f.png") as png:
        assert png.size == (1050, 750)  # 3.5 x 2.5 inches at 300 dots
        assert png.info["Title"] == "Table IV"
        facts = " ".join(str(value) for value in png.info.values())
    texts = [
        facts,
        (tmp_path / "f.svg").read_text(),
        (tmp_path / "f.pdf").read_bytes().decode("latin-1"),
    ]
    for text in texts:
        for fact in ("scale=laptop", "protocol=code", "MIT-BIH: kaggle", "n=21 points"):
            assert fact in text
        assert "HSJ, 10 runs" in text
        assert not re.search(r"CreationDate|ModDate|dc:date", text)
    assert pd.read_csv(tmp_path / "f.csv")["y"].tolist() == [1, 3, 2]


def test_synthetic_figures_carry_a_visible_mark_once(tmp_path):
    from PIL import Image

    plain, _ = figure(tmp_path)
    marked, _ = figure(tmp_path, sources=MADE, name="g")
    plotting.mark_synthetic(marked)
    texts = [text.get_text() for text in marked.texts]
    assert texts.count(plotting.SYNTHETIC_TEXT) == 1
    assert plotting.SYNTHETIC_TEXT not in [text.get_text() for text in plain.texts]

    def reddish(path):
        with Image.open(path) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        return ((pixels[..., 0] > 200) & (pixels[..., 0] - pixels[..., 1] > 25)).mean()

    # The mark's letters cover a good part of the picture.
    assert reddish(tmp_path / "g.png") > 0.03 > 10 * reddish(tmp_path / "f.png")
    assert "synthetic=yes" in (tmp_path / "g.svg").read_text()
    with Image.open(tmp_path / "g.png") as picture:
        assert picture.info["Title"].startswith("SYNTHETIC")


def test_the_mark_hides_neither_lines_nor_titles_nor_pictures():
    def drawn(mark, picture=False):
        with plotting.style():
            drawing = plotting.new_figure(4, 3)
            axes = drawing.subplots(1, 1)
            if picture:
                axes.imshow(np.full((3, 3, 3), 200, np.uint8), aspect="auto")
            else:
                axes.plot(range(9), color="#009E73", linewidth=2, antialiased=False)
            axes.set_title("A title of black letters", fontsize=14)
            if mark:
                plotting.mark_synthetic(drawing)
            drawing.canvas.draw()
        return np.asarray(drawing.canvas.buffer_rgba())[..., :3].astype(int)

    plain, marked = drawn(mark=False), drawn(mark=True)
    coloured = (plain == (0, 0x9E, 0x73)).all(axis=-1)
    black = plain.max(axis=-1) < 60
    assert coloured.sum() > 300 and black.sum() > 300
    assert (marked[coloured] == plain[coloured]).all()
    assert np.abs(marked[black] - plain[black]).max() < 10
    behind = (plain != marked).any(axis=-1).mean()
    assert behind > 0.03
    # Behind a picture it would not be seen.
    plain, marked = drawn(mark=False, picture=True), drawn(mark=True, picture=True)
    inside = (plain == 200).all(axis=-1)
    assert inside.mean() > 0.4
    assert (marked[inside] != 200).any(axis=-1).mean() > 0.03


@pytest.mark.parametrize("size", [(7.2, 2.5), (3.5, 3.5), (7.2, 6.7), (3.5, 8.0)])
def test_the_mark_crosses_the_picture_without_leaving_it(size):
    with plotting.style():
        drawing = plotting.new_figure(*size)
        plotting.mark_synthetic(drawing)
        drawing.canvas.draw()
        box = drawing.texts[0].get_window_extent(drawing.canvas.get_renderer())
    page = drawing.bbox
    assert box.x0 >= 0 and box.y0 >= 0 and box.x1 <= page.width and box.y1 <= page.height
    assert box.width > 0.6 * page.width or box.height > 0.6 * page.height


def test_small_print_is_replaced_not_piled_up(tmp_path):
    drawing, _ = figure(tmp_path)
    plotting.footer(drawing, "other")
    prints = [text.get_text() for text in drawing.texts if text.get_gid() == "footer"]
    assert prints == ["other"]


SCRIPT = """
import sys; sys.path.insert(0, sys.argv[1]); sys.path.insert(0, sys.argv[2])
import pathlib
from tests.unit.reporting import test_artefacts
test_artefacts.figure(pathlib.Path(sys.argv[3]), test_artefacts.MADE)
test_artefacts.table(pathlib.Path(sys.argv[3]), sources=test_artefacts.MADE)
"""


def test_equal_content_gives_equal_bytes_in_another_process(root, tmp_path):
    folders = [tmp_path / "here", tmp_path / "there"]
    for folder in folders:
        folder.mkdir()
    figure(folders[0], MADE)
    table(folders[0], sources=MADE)
    tests = str(root)
    arguments = [str(root / "workflow/scripts"), tests, str(folders[1])]
    environment = os.environ | {"PYTHONHASHSEED": "5", "SOURCE_DATE_EPOCH": "5"}
    subprocess.run([sys.executable, "-c", SCRIPT, *arguments], env=environment, check=True)
    names = sorted(path.name for path in folders[0].iterdir())
    assert len(names) == 10
    for name in names:
        assert (folders[0] / name).read_bytes() == (folders[1] / name).read_bytes(), name


def test_a_failing_figure_leaves_the_old_one(tmp_path, monkeypatch):
    from matplotlib.figure import Figure

    figure(tmp_path)
    before = (tmp_path / "f.pdf").read_bytes()

    def fail(self, path, **settings):
        path.write_bytes(b"half")
        raise RuntimeError("interrupted")

    monkeypatch.setattr(Figure, "savefig", fail)
    with pytest.raises(RuntimeError):
        figure(tmp_path)
    assert (tmp_path / "f.pdf").read_bytes() == before
    assert not list(tmp_path.glob("*part*"))


# --- style ---


def test_style_leaves_no_trace():
    import matplotlib

    before = dict(matplotlib.rcParams)
    with plotting.style():
        assert matplotlib.rcParams["svg.hashsalt"] == "medrobust"
    assert dict(matplotlib.rcParams) == before


def test_models_have_fixed_and_different_colours():
    names = ["SCD01", "SCDCE", "BNN", "MLP", "CNN", "LeNet", "ResNet18", "RandomForest"]
    assert len({plotting.model_colour(name) for name in names}) == len(names)
    assert plotting.model_style("mine") == plotting.model_style("mine")
    assert plotting.model_colour("mine") not in {plotting.model_colour(name) for name in names}
    assert plotting.model_label("RandomForest") == "Random forest"


def test_colours_are_dark_enough_on_white():
    for name in ("SCD01", "SCDCE", "BNN", "MLP", "CNN", "LeNet", "ResNet18", "RandomForest"):
        rgb = [int(plotting.model_colour(name)[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
        luminance = np.dot([0.2126, 0.7152, 0.0722], linear)
        assert 1.05 / (luminance + 0.05) >= 3  # WCAG 2, graphical objects
