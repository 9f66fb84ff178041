"""Tables in LaTeX: what they consist of, and that pdflatex sets them."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from analysis.tables.latex import PREAMBLE, to_latex
from analysis.tables.rows import RowSpec, build
from analysis.tables.write import results
from kd.config.library import Library
from kd.config.plan import plan
from tests.analysis.tables.conftest import REASON
from tests.support import machine
from tests.support.paths import REPOSITORY

PDFLATEX = shutil.which("pdflatex")


def compiled(text: str, folder: Path) -> str:
    """Set a document with nothing but ``text`` and the packages that it names; return the log."""
    if PDFLATEX is None:
        machine.skip("pdflatex is not installed", "Debian has it in texlive-latex-recommended")
    packages = [line.removeprefix("% ") for line in text.splitlines() if line.startswith("% \\")]
    document = ["\\documentclass{article}", *packages, "\\begin{document}", text, "\\end{document}"]
    (folder / "t.tex").write_text("\n".join(document))
    command = [PDFLATEX, "-interaction=nonstopmode", "-halt-on-error", "t.tex"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace")
    assert result.returncode == 0, result.stdout[-2000:]
    return result.stdout


def one(label, runs, **more):
    return RowSpec("T", more.pop("group", "G"), label, "baseline", "", "x", runs, **more)


def body(text):
    return text.split(r"\toprule")[1].split(r"\bottomrule")[0]


def test_latex_has_all_parts_of_a_table(results):
    text = to_latex(results)
    for part in (
        r"\caption{Table 1}",
        r"\caption{Table 1: cost}",
        r"\begin{tabular}{llllrrrrrrrrlrrllp{3.5cm}}",
        r"\multicolumn{18}{l}{\emph{RetinaNet}} \\",
        r"RM + PFI & R50 & R18 & 3/3 & 33.0 $\pm$ 2.0 & 33.0 &",
        r"+2.0 $\pm$ 0.1 (+0.2 to +3.8){*} &",
        r"half\_way & R50",
        r"34.8\textsuperscript{\textdagger} & +2.9 & not comparable & not comparable & partial,",
        rf"failed: {REASON} \\",
        r"KD\_cls \textbar{} loc",
        r"\textsuperscript{\textdagger} 2x schedule \& a trained",
        r"(50\% of its layers)",
        r"{*} helps or hurts: the interval over seeds excludes 0.",
    ):
        assert part in text
    full = [line for line in body(text).splitlines() if " & " in line]
    assert len(full) == 8
    assert all(line.replace(r"\&", "").count("&") == 17 for line in full)


def test_latex_escapes_commands_and_unknown_characters(run):
    label = r"[a] \b_{c} ~d^e #1 $5 <*> ∀"
    text = to_latex(build([one(label, {0: run("r")})]))
    assert (
        r"{[}a] \textbackslash{}b\_\{c\} \textasciitilde{}d\textasciicircum{}e \#1 \$5 "
        r"\textless{}{*}\textgreater{} U+2200 &"
    ) in text


def test_the_title_precedes_the_table(results):
    assert r"\caption{RM \& PFI: Table 1}" in to_latex(results, "RM & PFI")


def test_each_table_is_a_float_with_its_notes(run):
    rows = [
        RowSpec(
            table, "G", "x", "baseline", "", "b", {0: run(table)}, notes=(note,) if note else ()
        )
        for table, note in (("Table 1", "first"), ("Table 2", "second"))
    ]
    first, second = to_latex(build(rows)).split(r"\end{table}")[:2]
    assert "First." in first
    assert "Second." not in first
    assert r"\textsuperscript{\textdagger} Second." in second


def test_only_a_wide_table_is_rotated(results, run):
    assert r"\begin{sidewaystable}" in to_latex(results)
    assert r"\begin{sidewaystable}" not in to_latex(build([one("x", {0: run("r", 0.3)})]))


def test_a_long_table_is_continued_on_another_page(run):
    """36 rows and titles fit: 20 + 1 and 14 + 1 stand on the first page, six on the second."""
    rows = [one(f"a{n}", {}, group="A") for n in range(20)]
    rows += [one(f"b{n}", {}, group="B") for n in range(20)]
    first, second = to_latex(build(rows)).split(r"\end{table}")[:2]
    assert r"\caption{T (1 of 2)}" in first
    assert r"\caption{T (2 of 2)}" in second
    assert r"\emph{B}" in first
    assert r"\emph{B}" in second
    names = [re.findall(r"^[ab]\d+", part, re.MULTILINE) for part in (first, second)]
    assert names[0] + names[1] == [f"a{n}" for n in range(20)] + [f"b{n}" for n in range(20)]
    assert names[1] == [f"b{n}" for n in range(14, 20)]


def test_a_title_is_never_the_last_line_of_a_page(run):
    rows = [one(f"a{n}", {}, group="A") for n in range(34)] + [one("b", {}, group="B")]
    first, second = to_latex(build(rows)).split(r"\end{table}")[:2]
    assert r"\emph{B}" not in first
    assert re.findall(r"^[ab]\d*", second, re.MULTILINE) == ["b"]


def test_rows_in_every_state_compile(results, run, tmp_path):
    base = {0: run("base", 0.3, spread=1)}
    odd = "[x] \\y_{z} ~^#$%&<>|*±→\u00d7≤≥†‡§¶é∀"
    seed = RowSpec("T", odd, odd, "distilled", odd, odd, {0: run("o", 0.31, spread=1)}, base,
                   stand_ins=(odd,), differs=(odd,), notes=(odd,), source=odd)  # fmt: skip
    log = compiled(to_latex(results, odd) + to_latex(build([seed])), tmp_path)
    assert "Overfull" not in log
    assert "too large" not in log


STUDIES = sorted(path.stem for path in (REPOSITORY / "configs" / "studies").glob("*.yaml"))


@pytest.mark.parametrize("study", STUDIES)
def test_every_study_compiles_before_anything_has_run(study, tmp_path, monkeypatch):
    """Not one line is wider than the page, and no float is longer."""
    study_plan = plan(study, "paper", Library(REPOSITORY / "configs"))
    monkeypatch.chdir(REPOSITORY)
    log = compiled(to_latex(results(study_plan), study_plan.study.title), tmp_path)
    assert "Overfull" not in log
    assert "Float too large" not in log


def test_the_packages_are_named_in_a_comment():
    assert r"\usepackage{booktabs, graphicx, rotating, textcomp}" in PREAMBLE
