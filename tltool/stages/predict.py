"""``tltool predict``: a table of predictions for structure files; a bad file is a row with its reason."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from tltool.data import structure_files
from tltool.errors import ConfigError, DataError, ResourceError
from tltool.training.predictor import Item, load_model
from tltool.training.run import Run
from tltool.training.sources import model_folder


def run(config: Mapping[str, Any], folder: Run) -> None:
    """Predict for every structure of ``config['input']`` and write the table to ``config['output']``."""
    output = Path(config["output"]).expanduser() if config["output"] else folder.folder / "predictions.csv"
    if output.suffix not in (".csv", ".parquet"):
        raise ConfigError(f"output={output}: the name must end in .csv or .parquet.")
    path = model_folder(config["model"], Path(config["runs"]), "transfer")
    folder.say(f"Model: {path}")
    table = load_model(path, config["device"]).table(
        _items(Path(config["input"]).expanduser()), int(config["batch_size"])
    )
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(output, index=False) if output.suffix == ".csv" else table.to_parquet(output, index=False)
    except OSError as error:
        raise ResourceError(f"Cannot write {output} ({error.strerror}); name another file with output=.") from error
    bad = table[table.status != "ok"].id.nunique()
    folder.say(f"{table.id.nunique() - bad:,} structures predicted, {bad:,} not (see the column status): {output}")


def _items(root: Path) -> Iterator[Item]:
    for file in structure_files.files(root):
        try:
            yield from structure_files.read(file)
        except DataError as error:
            yield file.stem, error
