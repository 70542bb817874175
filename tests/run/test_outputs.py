from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from harness.domain import Counterexample, InstanceResult, Job, Limits, Verdict
from harness.formats.compressed import write_gz
from harness.formats.counterexample import parse_counterexample
from harness.formats.vnnlib2_writer import write_robustness_query
from harness.run.outputs import counterexample_name, write_counterexample, write_counterexamples, write_results_csv
from harness.run.store import Store

MakeJob = Callable[..., Job]
MakeResult = Callable[..., InstanceResult]
WITNESS = Counterexample(np.array([0.1, 0.2], np.float32), np.array([1.0, -2.0, 3.5], np.float32))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "results.db", create=True) as opened:
        yield opened


@pytest.mark.parametrize(
    ("network", "prop"),
    [
        ("onnx/net.onnx", "vnnlib/p_1.vnnlib"),
        ("net.onnx.gz", "p_1.vnnlib.gz"),
        ("./onnx/deep/er/net.onnx", "vnnlib/eps2/p_1.vnnlib"),
    ],
)
def test_names_are_made_of_the_stems(network: str, prop: str) -> None:
    assert counterexample_name(network, prop) == "net_p_1.counterexample"


def test_dots_in_names_stay() -> None:
    assert counterexample_name("net_v1.2.onnx", "eps0.03.vnnlib") == "net_v1.2_eps0.03.counterexample"


def test_a_counterexample_reads_back_bit_equal(tmp_path: Path) -> None:
    path = write_counterexample(tmp_path / "counterexamples", "n_p.counterexample", WITNESS)
    assert path == tmp_path / "counterexamples" / "n_p.counterexample"
    found = parse_counterexample(path.read_text(), 2, 3)
    assert found.y is not None
    np.testing.assert_array_equal(found.x, WITNESS.x)
    np.testing.assert_array_equal(found.y, WITNESS.y)


def test_a_file_that_says_the_same_is_not_written_again_and_another_is_replaced(tmp_path: Path) -> None:
    path = write_counterexample(tmp_path, "n_p.counterexample", WITNESS)
    before = path.stat().st_ino
    write_counterexample(tmp_path, "n_p.counterexample", WITNESS)
    assert path.stat().st_ino == before
    path.write_text("((X_0 0.3)")
    write_counterexample(tmp_path, "n_p.counterexample", WITNESS)
    parse_counterexample(path.read_text(), 2, 3)


def test_only_what_is_judged_sat_has_a_file(
    store: Store, tmp_path: Path, make_job: MakeJob, make_result: MakeResult
) -> None:
    for key, verdict in (("yes", Verdict.SAT), ("late", Verdict.TIMEOUT), ("wrong", Verdict.ERROR)):
        store.add(make_result(make_job(key), verdict=verdict, counterexample=WITNESS), tool="t")
    store.add(make_result(make_job("no")), tool="t")
    written = write_counterexamples(store, store.rows(), tmp_path / "ce")
    assert [path.name for path in written] == ["baseline_yes.counterexample"]
    assert list((tmp_path / "ce").iterdir()) == written


def test_what_an_earlier_run_left_goes(
    store: Store, tmp_path: Path, make_job: MakeJob, make_result: MakeResult
) -> None:
    for key in ("a", "b"):
        store.add(make_result(make_job(key), verdict=Verdict.SAT, counterexample=WITNESS), tool="t")
    write_counterexamples(store, store.rows(), tmp_path / "ce")
    (tmp_path / "ce" / "notes.txt").write_text("somebody else's")
    write_counterexamples(store, store.rows()[:1], tmp_path / "ce")
    assert sorted(path.name for path in (tmp_path / "ce").iterdir()) == ["baseline_a.counterexample", "notes.txt"]


def test_networks_of_one_stem_have_files_of_their_own(
    store: Store, tmp_path: Path, make_job: MakeJob, make_result: MakeResult
) -> None:
    """`x/n.onnx` and `y/n.onnx` in one list; of a third network nothing else has the name."""
    other = Counterexample(WITNESS.x[::-1].copy(), WITNESS.y)
    for variant, key, counterexample in (("x/n", "p", WITNESS), ("y/n", "q", other), ("z", "p", WITNESS)):
        job = make_job(key, variant=variant)
        job = replace(job, key=f"{variant[0]}{'0' * 20}", instance=replace(job.instance, property_name="p.vnnlib"))
        store.add(make_result(job, verdict=Verdict.SAT, counterexample=counterexample), tool="t")
    written = write_counterexamples(store, store.rows(), tmp_path / "ce")
    assert [path.name for path in written] == [
        "n_p-x00000000000.counterexample",
        "n_p-y00000000000.counterexample",
        "z_p.counterexample",
    ]
    assert written[0].read_text() != written[1].read_text()


def test_rows_of_one_network_and_property_with_other_limits_have_files_of_their_own(
    store: Store, tmp_path: Path, make_job: MakeJob, make_result: MakeResult
) -> None:
    other = Counterexample(WITNESS.x[::-1].copy(), WITNESS.y)
    for index, counterexample in enumerate((WITNESS, other)):
        job = replace(make_job("p", index=index), key=f"{index}" * 20)
        store.add(make_result(job, verdict=Verdict.SAT, counterexample=counterexample), tool="t")
    written = write_counterexamples(store, store.rows(), tmp_path / "ce")
    # The first stands where a scorer looks for it.
    assert [path.name for path in written] == ["baseline_p.counterexample", "baseline_p-111111111111.counterexample"]
    assert written[0].read_text() != written[1].read_text()


def test_a_name_that_no_file_can_have_is_cut_and_told_apart_by_the_key(
    store: Store, tmp_path: Path, make_job: MakeJob, make_result: MakeResult
) -> None:
    for number in "12":
        job = make_job(f"{number * 64}")
        instance = replace(job.instance, network_name=f"{'n' * 200}.onnx", property_name=f"{'p' * 200}{number}.vnnlib")
        result = make_result(replace(job, instance=instance), verdict=Verdict.SAT, counterexample=WITNESS)
        store.add(result, tool="t")
    names = [path.name for path in write_counterexamples(store, store.rows(), tmp_path / "ce")]
    assert all(name.startswith("n" * 190) and len(name) == 220 for name in names)
    assert [name.rpartition("-")[2] for name in names] == [f"{n * 12}.counterexample" for n in "12"]


def test_one_that_the_format_cannot_hold_does_not_stop_the_others(
    store: Store, tmp_path: Path, make_job: MakeJob, make_result: MakeResult, caplog: pytest.LogCaptureFixture
) -> None:
    infinite = Counterexample(WITNESS.x, np.array([np.inf, 0, 0], np.float32))
    for key, counterexample in (("a", infinite), ("b", WITNESS)):
        store.add(make_result(make_job(key), verdict=Verdict.SAT, counterexample=counterexample), tool="t")
    written = write_counterexamples(store, store.rows(), tmp_path / "ce")
    assert [path.name for path in written] == ["baseline_b.counterexample"]
    assert "not finite" in caplog.text


@pytest.mark.parametrize("before", ["", "; a comment\n" * 1000])
def test_the_text_is_of_the_propertys_version(
    store: Store, tmp_path: Path, make_job: MakeJob, make_result: MakeResult, before: str
) -> None:
    query = write_robustness_query(np.zeros(2, np.float32), np.ones(2, np.float32), 0, (1, 2), (1, 3))
    for key, text in (("new", before + query), ("old", "; 1.0\n(declare-const X_0 Real)\n")):
        write_gz(tmp_path / f"{key}.vnnlib.gz", text)
        store.add(make_result(make_job(key), verdict=Verdict.SAT, counterexample=WITNESS), tool="t")
    files = {row.place: tmp_path / f"{row.key}.vnnlib.gz" for row in store.rows()}
    new, old = (path.read_text() for path in write_counterexamples(store, store.rows(), tmp_path / "ce", files))
    assert new == "X float32 [1,2]\n0.1\n0.2\nY float32 [1,3]\n1.0\n-2.0\n3.5\n"
    assert old.startswith("((X_0 0.1")


def test_one_whose_property_is_gone_does_not_stop_the_others(
    store: Store, tmp_path: Path, make_job: MakeJob, make_result: MakeResult, caplog: pytest.LogCaptureFixture
) -> None:
    for key in ("a", "b"):
        store.add(make_result(make_job(key), verdict=Verdict.SAT, counterexample=WITNESS), tool="t")
    files = {row.place: tmp_path / "gone.vnnlib" for row in store.rows() if row.key == "a"}
    written = write_counterexamples(store, store.rows(), tmp_path / "ce", files)
    assert [path.name for path in written] == ["baseline_b.counterexample"]
    assert "no such file" in caplog.text


def test_the_table_has_a_row_a_planned_job_in_the_planned_order(
    store: Store, tmp_path: Path, make_job: MakeJob, make_result: MakeResult
) -> None:
    wall = Limits(20.0, "wall")
    jobs = [make_job("b", index=1), make_job("a", index=0, limits=wall), make_job("open"), make_job("b", index=2)]
    for job in (jobs[1], jobs[0], jobs[3]):
        verdict = Verdict.SAT if job.index == 2 else Verdict.UNSAT
        store.add(make_result(job, verdict=verdict, prepare_s=3.5 if job.key == "a" else 0.0), tool="t")
    store.add(make_result(make_job("left from another run")), tool="t")
    write_results_csv(tmp_path / "results.csv", "cifar10_cnnb", jobs, store.rows())
    assert (tmp_path / "results.csv").read_text().splitlines() == [
        "cifar10_cnnb,onnx/baseline.onnx,vnnlib/b.vnnlib,0.000000,unsat,0.250000",
        "cifar10_cnnb,onnx/baseline.onnx,vnnlib/a.vnnlib,3.500000,unsat,1.500000",
        "cifar10_cnnb,onnx/baseline.onnx,vnnlib/b.vnnlib,0.000000,sat,0.250000",
    ]
