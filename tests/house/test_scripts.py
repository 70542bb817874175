"""The shell scripts: their syntax, their set-up without installing anything, and what they say when it cannot work."""

from __future__ import annotations

import shutil
import stat
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = ["run_benchmark.sh", "run_tests.sh", ".ci/run", "scripts/environment.sh", "scripts/docker-entrypoint.sh"]
COPIED = ["run_benchmark.sh", "scripts/environment.sh", "pyproject.toml", "constraints.txt"]

# Stands in for a Python: it makes a "virtual environment" of copies of itself and notes what pip is asked to do.
FAKE_PYTHON = """#!/bin/bash
case "$*" in
  *version_info*3,*) exit ${FAKE_TOO_OLD:-0} ;;
  *version_info*) echo 3.11 ;;
  *"import ensurepip"*) exit ${FAKE_NO_VENV:-0} ;;
  "-m venv --clear "*) mkdir -p "$4/bin" "$4/lib"; cp "$0" "$4/bin/python"; touch "$4/pyvenv.cfg" ;;
  "-m pip --version") exit 0 ;;
  "-m pip install "*)
    echo "$*" >> "$FAKE_LOG"
    if [[ "${FAKE_BREAK:-}" && "$*" == *"${FAKE_BREAK}"* ]]; then exit 1; fi
    if [[ "$*" == *"-e "* ]]; then
      printf '#!/bin/sh\\necho "$OMP_WAIT_POLICY $GOMP_SPINCOUNT lgbench $*"\\n' > "$(dirname "$0")/lgbench"
      printf 'echo "$LGBENCH_MAIN_JOB" > "$FAKE_LOG.main_job"\\n' >> "$(dirname "$0")/lgbench"
      chmod +x "$(dirname "$0")/lgbench"
    fi ;;
  *) echo "unexpected: $*" >&2; exit 99 ;;
esac
"""


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A folder with the scripts and the pins, whose name has a space."""
    root = tmp_path / "a checkout"
    for name in COPIED:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, root / name)
    fake = tmp_path / "bin" / "python3"
    fake.parent.mkdir()
    fake.write_text(FAKE_PYTHON)
    fake.chmod(0o755)
    return root


def start(
    checkout: Path, *arguments: str, cwd: Path | None = None, **settings: str
) -> subprocess.CompletedProcess[str]:
    log = checkout.parent / "pip.log"
    environment = {
        "PATH": f"{checkout.parent / 'bin'}:/usr/bin:/bin",
        "HOME": str(checkout.parent),
        "FAKE_LOG": str(log),
        **settings,
    }
    command = ["bash", str(checkout / "run_benchmark.sh"), *arguments]
    return subprocess.run(
        command, cwd=cwd or checkout.parent, env=environment, capture_output=True, text=True, check=False, timeout=60
    )


def installs(checkout: Path) -> list[str]:
    log = checkout.parent / "pip.log"
    return log.read_text().splitlines() if log.exists() else []


@pytest.mark.parametrize("name", SCRIPTS)
def test_syntax(name: str) -> None:
    shell = (ROOT / name).read_text().splitlines()[0].rpartition("/")[2].rpartition(" ")[2]
    done = subprocess.run(["sh" if shell == "sh" else "bash", "-n", name], cwd=ROOT, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
def test_shellcheck() -> None:
    done = subprocess.run(
        ["shellcheck", "--external-sources", "--source-path=SCRIPTDIR", *SCRIPTS],
        cwd=ROOT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("name", [name for name in SCRIPTS if name != "scripts/environment.sh"])
def test_programs_are_executable(name: str) -> None:
    assert (ROOT / name).stat().st_mode & stat.S_IXUSR


def test_first_start_sets_up_and_runs_the_main_job(checkout: Path) -> None:
    done = start(checkout, "cifar10_cnnb", "--inputs", "5")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "PASSIVE 0 lgbench bench cifar10_cnnb --inputs 5\n"
    torch, build, package = installs(checkout)
    assert torch.endswith("constraints.txt torch")
    assert build.endswith("hatchling editables")
    assert package.endswith(f"--no-build-isolation -e {checkout}")
    assert all(f"-c {checkout}/constraints.txt" in line for line in (torch, build, package))


def test_the_tests_environment_has_the_reference_without_its_pins(checkout: Path) -> None:
    start(checkout)
    assert not [line for line in installs(checkout) if "auto_LiRPA" in line]
    program = '. "$1/scripts/environment.sh" && prepare_environment dev'
    environment = {"PATH": f"{checkout.parent / 'bin'}:/usr/bin:/bin", "FAKE_LOG": str(checkout.parent / "pip.log")}
    subprocess.run(["bash", "-c", program, "bash", str(checkout)], env=environment, check=True, capture_output=True)
    package, reference = installs(checkout)[-2:]
    assert package.endswith(f"-e {checkout}[dev]")
    assert reference.endswith(f"-c {checkout}/constraints.txt --no-deps auto_LiRPA")


def test_without_a_name_it_runs_cifar10_cnnb(checkout: Path) -> None:
    assert start(checkout).stdout.endswith("lgbench bench cifar10_cnnb\n")
    assert start(checkout, "--inputs", "5").stdout.endswith("lgbench bench cifar10_cnnb --inputs 5\n")


def test_second_start_installs_nothing(checkout: Path, tmp_path: Path) -> None:
    start(checkout)
    before = installs(checkout)
    done = start(checkout, "x", cwd=tmp_path)
    assert done.stdout.endswith("lgbench bench x\n")
    assert done.stderr == ""
    assert installs(checkout) == before


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_changed_pins_install_again(checkout: Path, name: str) -> None:
    start(checkout)
    with (checkout / name).open("a") as stream:
        stream.write("\n# changed\n")
    start(checkout)
    assert len(installs(checkout)) == 6


@pytest.mark.parametrize("broken", ["torch", "hatchling", "-e "])
def test_an_interrupted_installation_is_taken_up_again(checkout: Path, broken: str) -> None:
    failed = start(checkout, FAKE_BREAK=broken)
    assert failed.returncode == 2
    assert failed.stderr.splitlines()[-1].startswith("error: the installation stopped")
    assert failed.stdout == ""
    again = start(checkout)
    assert again.returncode == 0, again.stderr
    assert again.stdout.endswith("lgbench bench cifar10_cnnb\n")


def test_a_package_that_was_killed_on_its_way_is_no_package(checkout: Path) -> None:
    start(checkout, FAKE_BREAK="hatchling")
    packages = checkout / ".venv" / "lib" / "python3.11" / "site-packages"
    for name, files in {"whole": ["METADATA", "RECORD"], "half": ["METADATA"]}.items():
        (packages / f"{name}.dist-info").mkdir(parents=True)
        for file in files:
            (packages / f"{name}.dist-info" / file).touch()
    assert start(checkout).returncode == 0
    assert [path.name for path in packages.iterdir()] == ["whole.dist-info"]


def test_half_made_environment_is_made_anew(checkout: Path) -> None:
    (checkout / ".venv").mkdir()
    (checkout / ".venv" / "pyvenv.cfg").touch()
    assert start(checkout).returncode == 0


def test_environment_elsewhere(checkout: Path, tmp_path: Path) -> None:
    assert start(checkout, LGBENCH_VENV="other/env", cwd=tmp_path).returncode == 0
    assert (tmp_path / "other" / "env" / "bin" / "lgbench").exists()
    assert not (checkout / ".venv").exists()


def test_a_foreign_folder_is_not_emptied(checkout: Path, tmp_path: Path) -> None:
    folder = tmp_path / "thesis"
    folder.mkdir()
    (folder / "chapter1.tex").write_text("years of work")
    done = start(checkout, LGBENCH_VENV=str(folder))
    assert done.returncode == 2
    assert "LGBENCH_VENV" in done.stderr
    assert (folder / "chapter1.tex").read_text() == "years of work"


def test_missing_venv_module_names_the_package(checkout: Path) -> None:
    done = start(checkout, FAKE_NO_VENV="1")
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "apt-get install python3.11-venv" in line


def test_arguments_pass_unchanged(checkout: Path) -> None:
    done = start(checkout, "a b", "*", "$HOME", "--out", "")
    assert done.stdout == "PASSIVE 0 lgbench bench a b * $HOME --out \n"


def test_settings_of_the_caller_win(checkout: Path) -> None:
    assert start(checkout, OMP_WAIT_POLICY="ACTIVE", GOMP_SPINCOUNT="9").stdout.startswith("ACTIVE 9 ")


def test_works_through_a_link(checkout: Path, tmp_path: Path) -> None:
    link = tmp_path / "bin" / "bench"
    link.symlink_to(checkout / "run_benchmark.sh")
    environment = {"PATH": f"{tmp_path / 'bin'}:/usr/bin:/bin", "FAKE_LOG": str(tmp_path / "pip.log")}
    done = subprocess.run([str(link)], env=environment, cwd="/", capture_output=True, text=True, check=False)
    assert done.stdout.endswith("lgbench bench cifar10_cnnb\n"), done.stderr


@pytest.mark.parametrize(
    ("arguments", "command"),
    [
        ([], "docker run ... lg-bench: bench cifar10_cnnb"),
        (["--inputs", "3"], "docker run ... lg-bench: bench cifar10_cnnb --inputs 3"),
        (["mnist_x", "--inputs", "3"], "docker run ... lg-bench: bench mnist_x --inputs 3"),
        (["lgbench", "doctor"], ": doctor"),
    ],
)
def test_the_image_runs_the_main_job_or_what_is_named(tmp_path: Path, arguments: list[str], command: str) -> None:
    fake = tmp_path / "lgbench"
    fake.write_text('#!/bin/sh\necho "$LGBENCH_MAIN_JOB: $*"\n')
    fake.chmod(0o755)
    done = subprocess.run(
        ["sh", str(ROOT / "scripts/docker-entrypoint.sh"), *arguments],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "NUMBA_CACHE_DIR": str(tmp_path)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.stdout == f"{command}\n"


def test_pins_are_exact_and_leave_the_build_of_torch_open() -> None:
    pins = [line for line in (ROOT / "constraints.txt").read_text().splitlines() if line and not line.startswith("#")]
    assert all(line.count("==") == 1 for line in pins)
    assert not [line for line in pins if "+" in line]
    assert "torch==2.13.0" in pins
    assert pins == sorted(pins, key=str.lower)


def test_the_command_is_told_how_its_user_called_it(checkout: Path) -> None:
    assert start(checkout, "tiny").returncode == 0
    told = (checkout.parent / "pip.log.main_job").read_text()
    assert told == str(checkout / "run_benchmark.sh").replace(" ", "\\ ") + "\n"
