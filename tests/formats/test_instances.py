from __future__ import annotations

from pathlib import Path

import pytest

from harness.domain import Instance, UsageError
from harness.formats.instances import read_instances, read_list, read_rows, write_instances

SHARED = Path(__file__).parents[3] / "shared" / "vnncomp_cases"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("onnx/a.onnx.gz", "vnnlib/p.vnnlib", "vnnlib/sub/q, r.vnnlib"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path.parent / "outside.onnx").touch()
    return tmp_path


def listed(folder: Path, text: str) -> list[Instance]:
    path = folder / "instances.csv"
    path.write_bytes(text.encode())
    return read_instances(path)


def test_rows_are_read_in_order(folder: Path) -> None:
    text = '\r\nonnx/a.onnx,./vnnlib/p.vnnlib,116\r\n,,\r\n"onnx/a.onnx","vnnlib/sub/q, r.vnnlib", 0.5\r\n\r\n'
    first, second = listed(folder, text)
    assert first == Instance(
        folder / "onnx/a.onnx.gz", folder / "vnnlib/p.vnnlib", 116.0, "onnx/a.onnx", "./vnnlib/p.vnnlib"
    )
    assert second.property == folder / "vnnlib/sub/q, r.vnnlib"
    assert second.timeout_s == 0.5


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("onnx/a.onnx,vnnlib/p.vnnlib", "2 columns"),
        ("onnx/a.onnx,vnnlib/p.vnnlib,1,2", "4 columns"),
        ("onnx/a.onnx,vnnlib/p.vnnlib,ten", "time limit 'ten'"),
        ("onnx/a.onnx,vnnlib/p.vnnlib,0", "time limit '0'"),
        ("onnx/a.onnx,vnnlib/p.vnnlib,-3", "time limit '-3'"),
        ("onnx/a.onnx,vnnlib/p.vnnlib,inf", "time limit 'inf'"),
        ("onnx/a.onnx,vnnlib/p.vnnlib,nan", "time limit 'nan'"),
        ("onnx/b.onnx,vnnlib/p.vnnlib,1", "'onnx/b.onnx' is no file (nor is 'b.onnx.gz')"),
        (",vnnlib/p.vnnlib,1", "does not lie"),
        ("../outside.onnx,vnnlib/p.vnnlib,1", "does not lie"),
        ("onnx/../../outside.onnx,vnnlib/p.vnnlib,1", "does not lie"),
        ("/etc/passwd,vnnlib/p.vnnlib,1", "does not lie"),
        ("\"[('f', 'onnx/a.onnx')]\",vnnlib/p.vnnlib,1", "several networks"),
        ('onnx/a.onnx,"vnnlib/p.vnnlib"x,1', "not a CSV row"),
    ],
)
def test_a_wrong_row_is_named_with_its_line(folder: Path, row: str, what: str) -> None:
    with pytest.raises(UsageError, match=r"instances\.csv:3: ") as caught:
        listed(folder, f"onnx/a.onnx,vnnlib/p.vnnlib,1\n\n{row}\n")
    assert what in str(caught.value)


def test_a_row_without_its_files_is_listed_with_the_reason(folder: Path) -> None:
    path = folder / "instances.csv"
    long = "x" * 300
    path.write_text(f"onnx/a.onnx,vnnlib/none.vnnlib,5\nonnx/a.onnx,vnnlib/p.vnnlib,6\n{long}.onnx,vnnlib/p.vnnlib,7\n")
    first, second, third = read_list(path)
    assert first.problem == f"{path}:1: 'vnnlib/none.vnnlib' is no file (nor is 'none.vnnlib.gz') in {folder}/vnnlib"
    assert (first.instance.network, first.instance.timeout_s) == (folder / "onnx/a.onnx.gz", 5.0)
    assert (second.problem, second.instance.property) == ("", folder / "vnnlib/p.vnnlib")
    assert third.problem.startswith(f"{path}:3: 'xxx")
    assert "File name too long" in third.problem


def test_no_rows_and_no_file(folder: Path) -> None:
    with pytest.raises(UsageError, match="lists no instances"):
        listed(folder, "\n\n")
    with pytest.raises(UsageError, match="no such file"):
        read_instances(folder / "other.csv")


def test_written_instances_read_back(folder: Path) -> None:
    path = folder / "instances.csv"
    given = [
        Instance(folder / "onnx/a.onnx.gz", folder / "vnnlib/p.vnnlib", 116.0),
        Instance(folder / "onnx/a.onnx.gz", folder / "vnnlib/sub/q, r.vnnlib", 0.1, "onnx/a.onnx", ""),
    ]
    write_instances(path, given)
    assert path.read_text() == 'onnx/a.onnx,vnnlib/p.vnnlib,116\nonnx/a.onnx,"vnnlib/sub/q, r.vnnlib",0.1\n'
    found = read_instances(path)
    assert [(i.network, i.property, i.timeout_s) for i in found] == [
        (i.network, i.property, i.timeout_s) for i in given
    ]


def test_a_nameless_file_outside_is_not_written(folder: Path) -> None:
    with pytest.raises(ValueError, match=r"outside\.onnx"):
        write_instances(folder / "i.csv", [Instance(folder.parent / "outside.onnx", folder / "vnnlib/p.vnnlib", 1)])


@pytest.mark.skipif(not SHARED.is_dir(), reason="../shared/vnncomp_cases is not here")
@pytest.mark.parametrize(
    ("name", "count"), [("acasxu", 186), ("mnistfc", 90), ("oval21", 30), ("sdp_cifar_cnn_a", 100)]
)
def test_public_lists(name: str, count: int) -> None:
    assert len(read_instances(SHARED / name / "instances.csv")) == count


def test_a_row_of_several_networks_names_them(folder: Path) -> None:
    (folder / "onnx/b.onnx").touch()
    path = folder / "instances.csv"
    pair = "\"[('f', 'onnx/a.onnx'), ('g', 'onnx/{}.onnx')]\",vnnlib/p.vnnlib,5\n"
    path.write_text(pair.format("b") + pair.format("none") + "onnx/a.onnx,vnnlib/p.vnnlib,6\n")
    first, second, third = read_list(path)
    assert first.networks == (("f", folder / "onnx/a.onnx.gz"), ("g", folder / "onnx/b.onnx"))
    assert first.instance.network.name == "a_b"
    assert first.problem == ""
    assert second.problem.startswith(f"{path}:2: 'onnx/none.onnx' is no file")
    assert (third.networks, third.problem) == ((), "")


@pytest.mark.parametrize("cell", ["[('f', 'onnx/a.onnx'), ('f', 'onnx/a.onnx')]", "[]", "[1]", "[('f',", "[f(1)]"])
def test_a_list_that_is_none_is_named(folder: Path, cell: str) -> None:
    with pytest.raises(UsageError, match=r"instances\.csv:1: .* is not a list of networks"):
        listed(folder, f'"{cell}",vnnlib/p.vnnlib,1\n')


def test_all_wrong_rows_are_found_at_once(folder: Path) -> None:
    path = folder / "instances.csv"
    path.write_text("onnx/a.onnx,vnnlib/p.vnnlib\nonnx/a.onnx,vnnlib/p.vnnlib,1\nonnx/a.onnx,vnnlib/p.vnnlib,-1\n")
    rows, problems = read_rows(path)
    assert [row.where for row in rows] == [f"{path}:2"]
    assert [problem.split(": ")[0] for problem in problems] == [f"{path}:1", f"{path}:3"]
