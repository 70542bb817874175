"""`lgbench masks`: how alike masks are, which recipe comes closest to a given one, and their figures."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.table import Table
from rich.text import Text

from harness.analysis.masks import MaskMatch, as_mask, compare_with, jaccard, overlap
from harness.cli.outcome import MIN_WIDTH
from harness.cli.score import parse_gammas
from harness.domain import BoolArray, UsageError
from harness.grafting.npz import read_npz
from harness.grafting.ranking import Ranking, rank
from harness.grafting.recipe import MaskRecipe
from harness.grafting.scores import INSTABILITY, read_scores
from harness.grafting.selection import DEFAULT_GAMMAS, DEFAULT_RATIO
from harness.grafting.significance import Heuristic
from harness.report.csv_text import csv_text

RECIPE_RANKINGS = (Ranking.NORANK, Ranking.MIN, Ranking.DENSE)
"""The rankings of the thesis' 27 recipes; `ordinal` is not among them."""
RECIPE_HEURISTICS = (Heuristic.GRADIENT, Heuristic.MAGNITUDE, Heuristic.VARIANCE)
_NOT_MASKS = ("layer_sizes", "names", "shapes", "provenance")
_FILE = click.Path(path_type=Path, dir_okay=False)
_OUT = click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Folder for figures: PNG, SVG, CSV."
)
_JSON = click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
_GAMMAS = click.option(
    "--gammas", default=",".join(f"{g:g}" for g in DEFAULT_GAMMAS), show_default=True, help="One a stage."
)
_RATIO = click.option("--ratio", type=float, default=DEFAULT_RATIO, show_default=True, help="Share of neurons.")


@click.group()
def masks() -> None:
    """Compare masks of one network, and draw what they were chosen by.

    A mask is named as FILE.npz, or FILE.npz:ARRAY where the file has several.
    """


@masks.command(short_help="Print how alike masks are, and how they overlap.")
@click.argument("named", nargs=-1, required=True, metavar="MASK MASK...")
@click.option("--names", help="What to call them, in order: a,b,c.  [default: file or array names]")
@_OUT
@_JSON
def compare(named: tuple[str, ...], names: str | None, out: Path | None, as_json: bool) -> int:
    """Print Jaccard similarities, the average Jaccard distance, and how many neurons lie in which masks.

    A region `110` has the neurons that are in the first two masks and in no other. With --out a Venn diagram of two or
    three masks, an UpSet figure of more.
    """
    if len(named) < 2:
        raise UsageError(f"a comparison is of at least two masks, {named[0]} is one; name another")
    arrays = dict(zip(_names(named, names), map(read_named_mask, named), strict=True))
    found = overlap(arrays)
    pairs = {f"{a}|{b}": jaccard(arrays[a], arrays[b]) for a, b in itertools.combinations(arrays, 2)}
    if out is not None:
        from harness.report.mask_figures import write_overlap

        write_overlap(found, "Neurons that masks have in common", out, "overlap")
    if as_json:
        click.echo(json.dumps({**found.to_json(), "jaccard": pairs}, indent=2))
        return 0
    for name, size in zip(found.names, found.sizes, strict=True):
        click.echo(f"{name}: {size} neurons")
    for pair, value in pairs.items():
        click.echo(f"Jaccard {pair.replace('|', ', ')}: {value:.6f}")
    click.echo(f"average distance dJ: {found.distance:.6f}")
    for key, count in found.regions.items():
        if count:
            click.echo(f"{key}  {count}")
    return 0


@masks.command(short_help="Print which recipes come closest to a given mask.")
@click.option("--scores", "scores_file", type=_FILE, required=True, help="Score file (.npz) of the mask's network.")
@click.option("--given", required=True, metavar="MASK", help="The mask to come close to.")
@_GAMMAS
@_RATIO
@click.option("--csv", "as_csv", is_flag=True, help="Print the table as CSV.")
@_JSON
def recipes(scores_file: Path, given: str, gammas: str, ratio: float, as_csv: bool, as_json: bool) -> int:
    """Print how close each of 27 recipes comes to a given mask, the closest first.

    Recipes are all of instability ranking (norank, min, dense) x significance ranking x heuristic (GAP, SAP, VAP),
    named in that order. The recipe that the given mask was made by need not be among them.
    """
    if as_csv and as_json:
        raise click.UsageError("--json and --csv exclude each other; choose one")
    scores, target = read_scores(scores_file), read_named_mask(given)
    made = {name: recipe.apply(scores).mask for name, recipe in recipe_grid(parse_gammas(gammas), ratio)}
    found = compare_with(target, made)
    if as_json:
        rows = [{"recipe": m.name, "size": m.size, "inter": m.common, "jaccard": m.jaccard} for m in found]
        click.echo(json.dumps({"given": int(target.sum()), "recipes": rows}, indent=2))
    elif as_csv:
        click.echo(_recipes_csv(found), nl=False)
    else:
        console = Console()
        console.width = max(console.width, MIN_WIDTH)
        console.print(_recipes_table(found))
    return 0


@masks.command(short_help="Draw scores, and which neurons each stage selects.")
@click.option("--scores", "scores_file", type=_FILE, required=True, help="Score file (.npz).")
@click.option("--heuristic", required=True, help="As for `lgbench mask`.")
@click.option("--ranking", type=click.Choice([r.value for r in Ranking]), default="min", show_default=True)
@_GAMMAS
@_RATIO
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), required=True, help="Folder for PNG, SVG and CSV."
)
def draw(scores_file: Path, heuristic: str, ranking: str, gammas: str, ratio: float, out: Path) -> int:
    """Draw how each ranking spreads the scores, and which neurons each stage selects.

    Writes `scores_HEURISTIC.*` and `selection_HEURISTIC_RANKING.*` to OUT.
    """
    from harness.report.mask_figures import write_score_histograms, write_selection

    scores = read_scores(scores_file)
    recipe = MaskRecipe(Heuristic.parse(heuristic), Ranking(ranking), gammas=parse_gammas(gammas), ratio=ratio)
    values, unstable = recipe.significance(scores), scores.array(INSTABILITY)
    chosen, name = recipe.apply(scores), recipe.heuristic.value
    written = write_score_histograms(
        {each.value: rank(values, each) for each in Ranking},
        {each.value: rank(unstable, each) for each in Ranking},
        f"{name}: scores of {scores.neurons} neurons",
        out,
        f"scores_{name}",
    )
    written += write_selection(
        (rank(unstable, recipe.ranking), rank(values, recipe.ranking)),
        chosen.stage_picks,
        recipe.gammas,
        f"{name}, {ranking}: {chosen.count} of {scores.neurons} neurons",
        out,
        f"selection_{name}_{ranking}",
    )
    for path in written:
        click.echo(str(path))
    return 0


def recipe_grid(gammas: tuple[float, ...], ratio: float) -> Iterator[tuple[str, MaskRecipe]]:
    """Yields the 27 recipes of the thesis by name: `instability ranking|significance ranking|heuristic`."""
    short = {Heuristic.GRADIENT: "GAP", Heuristic.MAGNITUDE: "SAP", Heuristic.VARIANCE: "VAP"}
    for unstable, significant, heuristic in itertools.product(RECIPE_RANKINGS, RECIPE_RANKINGS, RECIPE_HEURISTICS):
        name = f"{unstable.value}|{significant.value}|{short[heuristic]}"
        yield name, MaskRecipe(heuristic, significant, unstable, gammas, ratio)


def read_named_mask(text: str) -> BoolArray:
    """Returns the mask that `FILE.npz` or `FILE.npz:ARRAY` names, flat.

    Raises:
        UsageError: no such file or array, or the array is no mask; without an array's name the file has to have an
            array `mask`, or one mask alone.
    """
    file, colon, array = text.rpartition(":") if ".npz:" in text else (text, "", "")
    arrays = read_npz(Path(file))
    flat = [name for name, value in arrays.items() if name not in _NOT_MASKS and value.ndim == 1]
    if not colon:
        array = "mask" if "mask" in arrays or len(flat) != 1 else flat[0]
    if array not in arrays:
        known = ", ".join(flat) or "none"
        raise UsageError(f"{file}: has no array '{array}'; name one as {file}:ARRAY, there are: {known}")
    if not np.issubdtype(arrays[array].dtype, np.number) and arrays[array].dtype != np.bool_:
        raise UsageError(f"{text}: array '{array}' is not of numbers; name a mask")
    return as_mask(arrays[array], text)


def _names(named: Sequence[str], given: str | None) -> list[str]:
    if given is not None:
        names = [name.strip() for name in given.split(",")]
        if len(names) != len(named) or len(set(names)) < len(names):
            raise UsageError(f"--names needs {len(named)} different names for {len(named)} masks, not '{given}'")
        return names
    short = [text.rpartition(":")[2] if ".npz:" in text else Path(text).stem for text in named]
    return short if len(set(short)) == len(short) else [f"{k}: {text}" for k, text in enumerate(named, 1)]


def _recipes_csv(found: Sequence[MaskMatch]) -> str:
    rows = ((m.name, m.size, m.common, m.union, m.given, m.jaccard) for m in found)
    return csv_text(("recipe", "size", "inter", "union", "given", "jaccard"), rows)


def _recipes_table(found: Sequence[MaskMatch]) -> Table:
    table = Table(box=None, pad_edge=False)
    table.add_column("instability|significance|heuristic")
    for name in ("neurons", "in common", "Jaccard", "of the given %"):
        table.add_column(name, justify="right")
    for match in found:
        share = "-" if match.recovered is None else f"{match.recovered:.2f}"
        table.add_row(Text(match.name), str(match.size), str(match.common), f"{match.jaccard:.6f}", share)
    return table
