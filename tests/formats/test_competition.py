from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from harness.domain import UsageError, Verdict, WitnessVerdict
from harness.formats.competition import (
    file_stem,
    inside_benchmark,
    instance_name,
    network_paths,
    read_limits,
    read_results,
    read_verdicts,
    verdict_of_word,
    without_year,
)

ROW = "acasxu,b/onnx/a.onnx,b/vnnlib/p.vnnlib,20.5,unsat,7.25\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "results.csv"


def test_rows_are_read_with_commas_lists_gzip_and_windows_line_ends(path: Path) -> None:
    nets = "[('f', 'b/onnx/base.onnx'), ('g', 'b/onnx/mod, new.onnx')]"
    text = f'acasxu,"b/onnx/a, b.onnx",b/vnnlib/p.vnnlib, 20.5 ,sat,7.25\r\n\r\nx,"{nets}",./vnnlib/i.vnnlib,0,,1\r\n'
    path.with_suffix(".csv.gz").write_bytes(gzip.compress(text.encode()))
    first, second = read_results(path)
    assert (first.network, first.verdict, first.prepare_s, first.run_s) == ("b/onnx/a, b.onnx", Verdict.SAT, 20.5, 7.25)
    assert (first.name, first.where) == ("a, b_p", f"{path}:1")
    assert (second.network, second.name, second.verdict, second.where) == (nets, "f_g_i", Verdict.UNKNOWN, f"{path}:3")


@pytest.mark.parametrize(
    ("word", "verdict"),
    [
        ("unsat", Verdict.UNSAT),
        ("Holds", Verdict.UNSAT),
        ("sat", Verdict.SAT),
        ("sat (", Verdict.SAT),
        ("VIOLATED", Verdict.SAT),
        ("timeout", Verdict.TIMEOUT),
        ("timeout(X_0 1)", Verdict.TIMEOUT),
        ("timed-out", Verdict.TIMEOUT),
        ("run_instance_timeout", Verdict.TIMEOUT),
        ("prepare_instance_timeout", Verdict.TIMEOUT),
        ("unknown", Verdict.UNKNOWN),
        ("", Verdict.UNKNOWN),
        ("no_result_in_file", Verdict.UNKNOWN),
        ("prepare_instance_error_1", Verdict.UNKNOWN),
        ("error_nonmaximal", Verdict.UNKNOWN),
        ("error", Verdict.ERROR),
        ("error_exit_code_137", Verdict.ERROR),
        ("maybe", None),
        ("unknown!", None),
        ("errors", None),
    ],
)
def test_words_mean_what_the_scorer_takes_them_for(word: str, verdict: Verdict | None) -> None:
    assert verdict_of_word(word) is verdict


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("acasxu,onnx/a.onnx,vnnlib/q.vnnlib,1,unsat", "5 columns"),
        ("acasxu,[('f', 'a.onnx'), ('g', 'b.onnx')],vnnlib/q.vnnlib,1,unsat,1", "9 columns"),
        ("acasxu,onnx/a.onnx,vnnlib/q.vnnlib,1,proved,1", "'proved' is no result word"),
        ("acasxu,onnx/a.onnx,vnnlib/q.vnnlib,1,unsat,-1", "'-1' is no number of seconds"),
        ("acasxu,onnx/a.onnx,vnnlib/q.vnnlib,1,unsat,inf", "'inf'"),
        ("acasxu,onnx/a.onnx,vnnlib/q.vnnlib,nan,unsat,1", "'nan'"),
        ("acasxu,onnx/a.onnx,vnnlib/q.vnnlib,soon,unsat,1", "'soon'"),
        ("acasxu,\"[('f', 3)]\",vnnlib/q.vnnlib,1,unsat,1", "not a list of (name, network) pairs"),
        ("acasxu,[],vnnlib/q.vnnlib,1,unsat,1", "not a list of (name, network) pairs"),
        ("acasxu,onnx/a.onnx,vnnlib/sub/p.vnnlib,1,unsat,1", "shares the stems 'a_p' with"),
        ('acasxu,"onnx/a.onnx"x,vnnlib/q.vnnlib,1,unsat,1', "not a CSV row"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(path: Path, row: str, what: str) -> None:
    path.write_text(f"{ROW}\n{row}\n")
    with pytest.raises(UsageError, match=r"results\.csv:3: ") as caught:
        read_results(path)
    assert what in str(caught.value)


def test_the_same_row_twice_is_legal_and_probes_share_what_they_like(path: Path) -> None:
    probe = "acasxu,test/onnx/test_nano.onnx,test/vnnlib/{}/test_nano.vnnlib,1,unsat,1\n"
    path.write_text(ROW + ROW.replace("b/onnx", "elsewhere/onnx") + probe.format(1) + probe.format(2))
    assert [row.is_probe for row in read_results(path)] == [False, False, True, True]


def test_folders_are_part_of_a_name_where_the_competition_says_so() -> None:
    path = "b/safenlp_2024/onnx/medical/perturbations_0.onnx"
    assert instance_name(path, "vnnlib/medical/h_1.vnnlib", "") == "medical_perturbations_0_h_1"
    assert instance_name("onnx/medical/a.onnx.gz", "p.vnnlib.gz", "") == "a_p"


@pytest.mark.parametrize(
    ("name", "stem"),
    [("onnx/a.onnx.gz", "a"), ("a.b.vnnlib", "a.b"), ("a.vnnlib.onnx", "a.vnnlib"), ("x/a.txt", "a.txt"), ("", "")],
)
def test_a_stem_has_neither_folders_nor_endings(name: str, stem: str) -> None:
    assert file_stem(name) == stem


def test_names_inside_a_benchmark() -> None:
    assert inside_benchmark("x/onnx/b/1.0/onnx/sub/a.onnx", "onnx") == "onnx/sub/a.onnx"
    assert inside_benchmark("a/onnx", "onnx") == "a/onnx"
    assert network_paths("onnx/a.onnx", "") == [("", "onnx/a.onnx")]
    assert network_paths("[('f', 'a'), ('g', 'b')]", "") == [("f", "a"), ("g", "b")]
    assert [without_year(name) for name in ("2025_acasxu_2023", "acasxu_2023", "2025_", "vit")] == [
        "acasxu_2023",
        "acasxu_2023",
        "2025_",
        "vit",
    ]


def test_limits_need_no_files(tmp_path: Path) -> None:
    path = tmp_path / "instances.csv"
    path.write_text("onnx/a.onnx,vnnlib/p.vnnlib,116\n\"[('f', 'onnx/a.onnx')]\",./vnnlib/q.vnnlib,0.5\n")
    assert [(row.name, row.timeout_s) for row in read_limits(path)] == [("a_p", 116.0), ("f_q", 0.5)]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("onnx/a.onnx,vnnlib/q.vnnlib", "2 columns"),
        ("onnx/a.onnx,vnnlib/q.vnnlib,-1", "time limit '-1'"),
        ("onnx/a.onnx,vnnlib/q.vnnlib,inf", "time limit 'inf'"),
        ("onnx/a.onnx,vnnlib/q.vnnlib,0", "time limit '0'"),
        ("onnx/sub/a.onnx,vnnlib/p.vnnlib,1", "shares the stems 'a_p'"),
    ],
)
def test_a_wrong_limit_is_named_with_its_line(tmp_path: Path, row: str, what: str) -> None:
    path = tmp_path / "instances.csv"
    path.write_text(f"onnx/a.onnx,vnnlib/p.vnnlib,116\n{row}\n")
    with pytest.raises(UsageError, match=r"instances\.csv:2: ") as caught:
        read_limits(path)
    assert what in str(caught.value)


def test_a_verdict_that_stands_twice_is_one_and_years_are_left_out(tmp_path: Path) -> None:
    path = tmp_path / "verdicts.csv"
    path.write_text("tool,id,benchmark,verdict\nmine,3,2025_acasxu,correct\nmine,3,acasxu,correct\n")
    (found,) = read_verdicts(path)
    assert (found.benchmark, found.id, found.tool, found.verdict) == ("acasxu", 3, "mine", WitnessVerdict.CORRECT)


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("acasxu,1,mine,right", "'right' is no witness verdict"),
        ("acasxu,-1,mine,correct", "'-1' is no id"),
        ("acasxu,one,mine,correct", "'one' is no id"),
        ("acasxu,1,,correct", "'tool' is empty"),
        ("acasxu,1,mine", "'verdict' is empty"),
        ("acasxu,0,mine,no_ce", ":2 has another verdict"),
    ],
)
def test_a_wrong_verdict_is_named_with_its_line(tmp_path: Path, row: str, what: str) -> None:
    path = tmp_path / "verdicts.csv"
    path.write_text(f"benchmark,id,tool,verdict\nacasxu,0,mine,correct\n{row}\n")
    with pytest.raises(UsageError, match=r"verdicts\.csv:3: ") as caught:
        read_verdicts(path)
    assert what in str(caught.value)


@pytest.mark.parametrize("text", ["", "acasxu,0,mine,correct\n"])
def test_verdicts_need_their_header(tmp_path: Path, text: str) -> None:
    path = tmp_path / "verdicts.csv"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"verdicts\.csv:1: the header is not 'benchmark,id,tool,verdict'"):
        read_verdicts(path)
