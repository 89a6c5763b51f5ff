"""What can be predicted: a quantity is a value with a name, a unit, limits, and a scale on which it is learnt.

``configs/quantity/`` has one YAML for each quantity that ships. Data of a user define their own (``define`` in a data
YAML, or the header of their table); the definition is then kept with the data set, the model and its results. A store
holds labels under these names in these units; an adapter converts.
"""

import json
import math
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from tltool.errors import CheckpointError, ConfigError, nearest

SCALES = ("linear", "log", "logit", "auto")
KINDS = ("number", "class")
PER = ("atom", "cell", "")
_NUMBER = re.compile(r"[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]{1,2})?")
_NAME = re.compile(r"[^\W\d_]\w{0,63}")
_LONGEST = {"unit": 40, "meaning": 300}
MOST_CLASSES = 100
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # four times as fast, where PyYAML has its C library


class Quantity(NamedTuple):
    """A quantity: ``name``, ``unit`` ("1" for a pure number, "" for one that nobody stated), and what it means.

    A label below ``least`` or above ``most`` is an error of its source, such as another unit or a calculation that
    failed, and is not used. ``log10_of`` names the quantity that it is the log10 of, if any. ``kind`` is ``number`` or
    ``class``; the label of a class is its place, from 0, among ``class_names``: the words of ``classes``, or 0 and 1
    without. ``scale`` says how a number is learnt: ``log`` as its logarithm if all training labels are above zero,
    ``auto`` if they also span two decades, ``logit`` as its logit between ``least`` and ``most``. ``per`` says if it is
    given per atom or per cell.
    """

    name: str
    unit: str
    meaning: str = ""
    least: float = -math.inf
    most: float = math.inf
    log10_of: str | None = None
    kind: str = "number"
    scale: str = "linear"
    per: str = ""
    classes: tuple[str, ...] = ()

    @property
    def is_class(self) -> bool:
        """Whether it is a class and no number."""
        return self.kind == "class"

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes, in the order of their labels 0, 1, ...; none for a number."""
        return (self.classes or ("0", "1")) if self.is_class else ()

    @property
    def width(self) -> int:
        """How many columns a model has for it: one for a number and for two classes, else one for each class."""
        return max(1, len(self.classes)) if len(self.classes) != 2 else 1

    @property
    def in_unit(self) -> str:
        """The unit after a number: with a space before it, or nothing where it has none."""
        return f" {self.unit}" if self.unit else ""


class Quantities(Mapping[str, Quantity]):
    """A table of quantities by name, which nobody can change; raise ConfigError if two have one name."""

    def __init__(self, table: Iterable[Quantity]) -> None:
        table = tuple(table)
        self._table = {quantity.name: quantity for quantity in table}
        if len(self._table) < len(table):
            twice = next(q.name for n, q in enumerate(table) if q.name in {other.name for other in table[:n]})
            raise ConfigError(f"There are two quantities called {twice!r}; give one of them another name.")

    def __getitem__(self, name: str) -> Quantity:
        return self._table[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._table)

    def __len__(self) -> int:
        return len(self._table)

    def named(self, name: str) -> Quantity:
        """Return the quantity called ``name``; raise ConfigError, with the nearest names, if there is none."""
        if name not in self._table:
            raise ConfigError(f"Unknown quantity {name!r}.{nearest(name, self._table)}")
        return self._table[name]

    def joined(self, others: Iterable[Quantity]) -> "Quantities":
        """Return this table and the ``others``, which replace quantities of the same name and unit.

        Raise ConfigError if one has the name of a quantity here, and another unit.
        """
        others = tuple(others)
        for other in others:
            here = self._table.get(other.name)
            if here is not None and not same_unit(here.unit, other.unit):
                raise ConfigError(
                    f"The quantity {other.name} is in {here.unit or 'no stated unit'}, and here it would be in "
                    f"{other.unit or 'no stated unit'}; convert the labels, or give it another name."
                )
        return Quantities((self._table | {other.name: other for other in others}).values()) if others else self


def defined(name: str, node: object, where: str = "") -> Quantity:
    """Return the quantity that ``node`` (a mapping of plain values) defines; the key ``where`` stands in errors.

    Raise ConfigError for a key that a definition does not have, and a value that it cannot have.
    """
    place = where or f"quantity {name}"
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name in _taken():
        raise ConfigError(
            f"{place}: the name of a quantity is a word of letters, digits and _, of 64 at most, that begins with a "
            f"letter and is no word of PyTorch's; {name!r} is not. Give it another name."
        )
    if not isinstance(node, Mapping):
        raise ConfigError(f"{place}={node!r} must hold keys, such as {{unit: eV, scale: log}}.")
    keys = [field for field in Quantity._fields if field != "name"]
    for key in node:
        if key not in keys:
            raise ConfigError(f"{place} has no key {key!r}.{nearest(str(key), keys)}")
    given = {key: value for key, value in node.items() if value is not None}
    for key, length in _LONGEST.items():
        word = given.setdefault(key, "")
        given[key] = str(word) if isinstance(word, int) and not isinstance(word, bool) else word  # unit: 1
        if not isinstance(given[key], str) or len(given[key]) > length or not given[key].isprintable():
            raise ConfigError(f"{place}.{key}={word!r} must be a text of at most {length} characters.")
    given["unit"] = given["unit"].strip()
    if given.get("classes"):
        given.setdefault("kind", "class")
    for key, choices in (("scale", SCALES), ("kind", KINDS), ("per", PER)):
        if given.get(key, choices[0]) not in choices:
            raise ConfigError(f"{place}.{key}={given[key]!r} is not known; use {', '.join(filter(None, choices))}.")
    for key in ("least", "most"):
        value = given.get(key, 0.0)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            raise ConfigError(f"{place}.{key}={value!r} must be a number.")
    return _consistent(Quantity(name, **_typed(given, place)), place)


def _typed(given: dict[str, Any], place: str) -> dict[str, Any]:
    if not isinstance(given.get("log10_of", ""), str):
        raise ConfigError(f"{place}.log10_of={given['log10_of']!r} must be the name of a quantity.")
    classes = _class_names(given.pop("classes", ()), place)
    bounds = {key: float(given[key]) for key in ("least", "most") if key in given}
    per = given.get("per") or next((p for p in ("atom", "cell") if given["unit"].endswith(f"/{p}")), "")
    return given | bounds | {"classes": classes, "per": per}


def _class_names(words: object, place: str) -> tuple[str, ...]:
    """Return the ``classes`` of a definition as words; raise ConfigError for what is no list of different words."""
    if not isinstance(words, (list, tuple)) or len(words) > MOST_CLASSES or len(words) == 1:
        raise ConfigError(f"{place}.classes must be a list of 2 to {MOST_CLASSES} words.")
    if any(isinstance(word, bool) for word in words):
        raise ConfigError(
            f"{place}.classes has a yes, no, true or false, which YAML reads as no word; put it in quotes."
        )
    if any(not isinstance(word, (str, int, float)) for word in words):
        raise ConfigError(f"{place}.classes must be words or numbers.")
    classes = tuple(class_word(str(word)) for word in words)
    longest = _LONGEST["unit"]
    if len(set(classes)) < len(classes) or any(not 0 < len(w) <= longest or not w.isprintable() for w in classes):
        raise ConfigError(f"{place}.classes must be different words of at most {longest} characters.")
    return classes


def class_word(text: str) -> str:
    """Return the name of the class that a cell says: without space around it, a number in one spelling (1.0 is 1)."""
    word = text.strip()
    return f"{float(word):.15g}" if _NUMBER.fullmatch(word) else word


def class_names_of(cells: Iterable[str]) -> tuple[str, ...]:
    """Return the names of the classes in ``cells``, numbers by their size before words by alphabet."""
    words = {class_word(cell) for cell in cells}

    def order(word: str) -> tuple[bool, float, str, str]:
        number = float(word) if _NUMBER.fullmatch(word) else math.nan
        return math.isnan(number), 0.0 if math.isnan(number) else number, word.casefold(), word

    return tuple(sorted(words, key=order))


def columns_of(abouts: Iterable[Quantity]) -> dict[str, slice]:
    """Return which columns of labels and predictions are of each quantity, in their order."""
    found, first = {}, 0
    for about in abouts:
        found[about.name] = slice(first, first + about.width)
        first += about.width
    return found


def _consistent(about: Quantity, place: str) -> Quantity:
    """Return ``about``; raise ConfigError if parts of it exclude each other."""
    if about.least >= about.most:
        raise ConfigError(f"{place}: least={about.least:g} must be below most={about.most:g}.")
    if about.scale == "logit" and not (math.isfinite(about.least) and math.isfinite(about.most)):
        raise ConfigError(f"{place}: scale: logit needs the bounds of the quantity, such as least: 0, most: 1.")
    if about.is_class and about.scale not in ("linear", "auto"):
        raise ConfigError(f"{place}: a class has no scale; leave scale={about.scale} out.")
    if about.classes and not about.is_class:
        raise ConfigError(f"{place}: a number has no classes; use kind: class, or leave classes out.")
    if about.is_class:
        return about._replace(unit=about.unit or "1", least=0.0, most=float(max(len(about.classes) - 1, 1)))
    return about


def described(about: Quantity) -> dict[str, Any]:
    """Return the definition as plain data, from which ``defined`` makes the same value."""
    default = Quantity(about.name, "")
    found = {key: value for key, value in about._asdict().items() if value != getattr(default, key)}
    found.pop("name", None)
    found["unit"] = about.unit
    return {key: list(value) if isinstance(value, tuple) else value for key, value in found.items()}


def table_of(definitions: Mapping[str, object], where: str = "data.define") -> Quantities:
    """Return the quantities that ship, and with them those of ``definitions`` {name: plain data}."""
    found = [defined(name, node, f"{where}.{name}") for name, node in definitions.items()]
    table = shipped().joined(found)
    for about in found:
        if about.log10_of and about.log10_of not in shipped():
            raise ConfigError(
                f"{where}.{about.name}.log10_of={about.log10_of!r} is no quantity that ships; define that one, with "
                "scale: log."
            )
    return table


@cache
def from_text(text: str) -> Quantities:
    """Return ``table_of`` of definitions that ``as_text`` wrote."""
    return table_of(json.loads(text)) if text else shipped()


def as_text(definitions: Mapping[str, object]) -> str:
    """Return ``definitions`` as text for the attributes of a store."""
    return json.dumps(definitions, sort_keys=True, ensure_ascii=False)


def same_unit(one: str, other: str) -> bool:
    """Say whether two spellings are one unit: W/mK and W/(m K), Å3 and Å^3, "" only with itself."""
    return one == other or (bool(one) and _bare(one) == _bare(other))


def _bare(unit: str) -> str:
    plain = unicodedata.normalize("NFKC", unit)
    return re.sub(r"[\s^*·()\[\]{}]|\.(?!\d)", "", plain)


def require_same_units(model: Mapping[str, object], data: Mapping[str, Quantity], names: Iterable[str]) -> None:
    """Raise CheckpointError if a ``model`` and the ``data`` have one of ``names`` in different units."""
    for name in names:
        if name in model and name in data:
            mine = defined(name, model[name])
            if not same_unit(mine.unit, data[name].unit):
                # A definition cannot change the unit that a header states.
                say = f"say that they are, with data.define={{{name}: {{unit: '{mine.unit}'}}}}, or "
                raise CheckpointError(
                    f"The model has {name} in {mine.unit or 'no stated unit'}, and the data have it in "
                    f"{data[name].unit or 'no stated unit'}; convert the labels, or "
                    f"{'' if data[name].unit else say}give them another name."
                )


def read_folder(folder: Traversable | Path) -> dict[str, Quantity]:
    """Return the quantities that the YAML files in ``folder`` define, by name, which is that of the file."""
    found = {}
    for file in sorted(folder.iterdir(), key=lambda file: file.name):
        if file.name.endswith(".yaml"):
            name = file.name.removesuffix(".yaml")
            try:
                node = yaml.load(file.read_bytes(), Loader=_LOADER)  # noqa: S506 - one of the two safe ones
            except yaml.YAMLError as error:
                raise ConfigError(f"{file} is no YAML ({' '.join(str(error).split())}); correct it.") from error
            found[name] = defined(name, node, str(file))
    return found


@cache
def shipped() -> Quantities:
    """Return the quantities that tltool ships, in the order of their names."""
    return Quantities(read_folder(files("tltool.configs").joinpath("quantity")).values())


@cache
def _taken() -> frozenset[str]:
    """Return names that no module of PyTorch's dictionary of modules can have."""
    # The attributes of torch.nn.ModuleDict, which this module must not import.
    of_torch = (
        "T_destination add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double "
        "dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu "
        "items keys load_state_dict modules mtia named_buffers named_children named_modules named_parameters "
        "parameters pop register_backward_hook register_buffer register_forward_hook register_forward_pre_hook "
        "register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook "
        "register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook "
        "register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to "
        "to_empty train training type update values xpu zero_grad"
    )
    return frozenset(of_torch.split()) | {"None", "True", "False"}


def name_of(text: str) -> str:
    """Return a name for a quantity that is called ``text`` by its user, "" if nothing of it can be kept."""
    word = re.sub(r"\W+", "_", unicodedata.normalize("NFKC", text)).strip("_")[:60]
    word = f"q_{word}" if word[:1].isdigit() else word
    return f"{word}_" if word in _taken() else word


def quantity(name: str, known: Quantities | None = None) -> Quantity:
    """Return the quantity called ``name`` of those that are ``known``, or that ship; ConfigError if there is none."""
    return (shipped() if known is None else known).named(name)
