"""``tltool predict``: write a table of predictions for structures or formulas; a row may be an error."""

from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tltool.data.formats import csv_rows, formulas, label_columns, structure_files
from tltool.data.formats.rows import beside_structures
from tltool.data.record import reason
from tltool.data.structure_checks import Checks
from tltool.errors import ConfigError, DataError, ResourceError
from tltool.evaluation import conditions, uncertainty
from tltool.evaluation.predictor import Base, Item, Predictor, opened
from tltool.evaluation.result_tables import show_predictions
from tltool.model.surgery.conditions import KEY
from tltool.run_folder import prediction_table
from tltool.run_folder.bundled_models import called
from tltool.run_folder.find import model_folder
from tltool.run_folder.run import Run
from tltool.training import setup
from tltool.training.backend import Backend


def run(config: Mapping[str, Any], folder: Run, backend: Backend, /) -> None:
    """Predict for every structure or formula of ``config['input']`` and write the table to ``config['output']``."""
    output = Path(config["output"]).expanduser() if config["output"] else folder.folder / "predictions.csv"
    if output.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"output={output}: the name must end with .csv or .parquet.")
    path = model_folder(config["model"], Path(config["runs"]), "transfer")
    folder.say(f"Model: {called(path)}")
    cache = Path(config["cache"]).expanduser()
    words = (config["functional"], config["state"], config["plugins"], config["coverage"])
    predictor = opened(path, backend, *words, cache, config["conditions"])
    if predictor.model.uncertainty and predictor.coverage:
        for line in uncertainty.without(predictor.model, predictor.coverage):
            folder.say(line)
    base = _base(config["base"], predictor, config, backend) if config["base"] else None
    root = Path(config["input"]).expanduser()
    items, under = _items(root, setup.checks(config)), None
    if (units := predictor.model.spec.get(KEY)) and not config["conditions"]:
        items, under = _under_conditions(root, list(items), units, predictor.model.spec)
    table = predictor.table(items, int(config["batch_size"]), base, under)
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        prediction_table.write(table, output)
    except OSError as error:
        raise ResourceError(f"Cannot write {output} ({error.strerror}); choose another file with output=.") from error
    bad = table[table.prediction.isna()].drop_duplicates("id")
    good = table.id.nunique() - len(bad)
    folder.say(f"{good:,} structures predicted, {len(bad):,} not predicted (see the column status): {output}")
    show_predictions(table)
    if not good:
        counts = Counter(reason(DataError(status)) for status in bad.status)
        first = dict(zip(reversed(list(map(reason, map(DataError, bad.status)))), reversed(list(bad.id)), strict=True))
        lines = [f"{n:,} of them: {why} (first: {first[why]})" for why, n in counts.most_common()]
        raise DataError(
            f"input={config['input']}: no structure or formula in it can be predicted; "
            f"{'; '.join(lines) or 'it is empty'}."
        )


def _base(name: str, predictor: Predictor, config: Mapping[str, Any], backend: Backend) -> Base:
    """Return the base values of a model that predicts differences: a table of id and quantities, or a model."""
    path = Path(name).expanduser()
    if path.suffix != ".csv":
        return opened(path, backend, plugins=config["plugins"])
    found: dict[tuple[str, str], float] = {}
    seen: dict[str, str] = {}
    for where, row in csv_rows.read(path, ["id", *predictor.model.quantities]):
        name = label_columns.text(row["id"])
        if name in seen:
            raise DataError(f"base={path}: {where} and {seen[name]} have the same id {name!r}; rename or remove one.")
        seen[name] = where
        said = label_columns.labels({key: row[key] for key in predictor.model.quantities}, predictor.model.known)
        for key, (why, cell) in said.bad.items():
            raise DataError(f"base={path}, {where}, id {name!r}: {key} is {why}: {cell}; correct it.")
        found |= {(name, key): value for key, value in said.good.items()}
    return found


def _under_conditions(
    root: Path, items: list[Item], units: Mapping[str, str], spec: Mapping[str, Any]
) -> tuple[Iterator[Item], dict[str, tuple[float, ...]]]:
    """Return each of ``items`` once for each row of the table beside it, and the conditions by the new id.

    Raise DataError without a table, or if it has no column of a condition.
    """
    path = beside_structures.table_in(root)
    if path is None:
        raise DataError(conditions.missing(spec, root))
    names = {structure_files.stem(name.rpartition("/")[2]) for name, _ in items}
    rows = beside_structures.conditions(path, units, names)
    of_item = {name: rows.get(name) or rows.get(name.rpartition("/")[2]) or [] for name, _ in items}
    every = [(name + one.suffix, crystal, one.fault) for name, crystal in items for one in of_item[name]]
    every += [(name, crystal, f"no row in {path.name}") for name, crystal in items if not of_item[name]]
    under = {name + one.suffix: one.conditions for name, _ in items for one in of_item[name] if not one.fault}
    found = (
        (name, DataError(f"{name}: {fault}") if fault and not isinstance(crystal, DataError) else crystal)
        for name, crystal, fault in every
    )
    return found, under


def _items(root: Path, checks: Checks) -> Iterator[Item]:
    """Yield each structure or formula with a unique name; a name that occurs twice includes its folder."""
    if not root.exists():
        raise DataError(f"input={root} does not exist; name a structure file, a folder of them or a CSV of formulas.")
    if root.is_file() and formulas.is_table(root):
        yield from formulas.attempts(root)
        return
    files = structure_files.files(root)
    names = Counter(structure_files.stem(file.name) for file in files)
    for file in files:
        folder = (
            "" if file == root or names[structure_files.stem(file.name)] == 1 else f"{file.relative_to(root).parent}/"
        )
        for name, crystal in structure_files.attempts(file, checks):
            yield folder + name, crystal
