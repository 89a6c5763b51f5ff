"""Digests of what errors rest on: the same for the same content in any order and name, another for anything else."""

from dataclasses import replace

import numpy as np
import pytest
from support import batches_of, config, fresh_model

from tltool.data import splits, store
from tltool.data.batches import batches
from tltool.data.dataset import Dataset
from tltool.data.store import Store
from tltool.evaluation import digests

CONFIG = {"split": {"_target_": "tltool.data.splits.random", "seed": 0}, "overlap": {"action": "report"}}


def of(part: Dataset, seed: int = 0, **changes):
    return digests.of(batches_of(part, seed=seed), part, fresh_model().spec, CONFIG, {"e_form": "content"}, **changes)


def changed(records: Store, **values) -> Store:
    return replace(records, **values)


def test_all_that_decides_is_recorded(part: Dataset) -> None:
    found = of(part, described={"root": "/x/y/a.csv"}, left_out=2)
    assert found["quantities"] == {"e_form": "eV/atom"}
    assert found["file"] == "a.csv"
    assert found["split"] == CONFIG["split"]
    assert found["overlap"] == {"rule": "report", "left_out": 2}
    assert (found["base"], found["base_name"], found["data"], found["schema"]) == (None, "", {"e_form": "content"}, 1)
    digests = [found["train"], found["val"], found["test"]["e_form"], found["shape"]]
    assert all(len(word) == 16 for word in digests)
    assert len(set(digests)) == 4


def test_rows_of_a_seed_are_the_same_again_and_those_of_another_are_not(part: Dataset) -> None:
    one, again, other = of(part), of(part), of(part, seed=1)
    assert one == again
    assert all(one[key] != other[key] for key in ("train", "val", "test"))


def test_a_label_or_an_id_of_a_test_row_changes_its_part_alone(part: Dataset) -> None:
    row = int(batches_of(part).split["test"][0])
    labels = {"e_form": part.store.labels["e_form"].copy()}
    labels["e_form"][row] += 0.01
    ids = [*part.store.ids]
    ids[row] = "another"
    one = of(part)
    for records in (changed(part.store, labels=labels), changed(part.store, ids=ids)):
        other = of(replace(part, store=records))
        assert one["test"] != other["test"]
        assert (one["train"], one["val"]) == (other["train"], other["val"])


def test_the_order_of_rows_does_not_matter(part: Dataset) -> None:
    split = batches_of(part).split
    back = {name: rows.flip(0) for name, rows in split.items()}
    given = replace(batches_of(part), split=back)
    assert digests.of(given, part, {}, CONFIG, {})["test"] == of(part)["test"]
    order = np.random.default_rng(0).permutation(len(part.store))
    assert digests.content(store.taken(part.store, order), ["e_form"]) == digests.content(part.store, ["e_form"])


@pytest.mark.parametrize("what", ["labels", "frac", "lattice", "numbers", "ids"])
def test_any_content_changes_the_digest_of_the_data(part: Dataset, what: str) -> None:
    records = part.store
    if what == "labels":
        values = {"e_form": np.where(np.arange(len(records)) == 7, 9.0, records.labels["e_form"])}
    elif what == "ids":
        values = ["new", *records.ids[1:]]
    else:
        values = getattr(records, what).copy()
        values.reshape(-1)[0] += 1
    other = changed(records, **{what: values})
    assert digests.content(other, ["e_form"]) != digests.content(records, ["e_form"])


def test_names_and_other_labels_are_no_content(part: Dataset) -> None:
    records = part.store
    gap = dict(records.labels) | {"gap": np.ones(len(records))}
    renamed = changed(records, attributes={"name": "another"}, labels=gap)
    assert digests.content(renamed, ["e_form"]) == digests.content(records, ["e_form"])
    both = digests.content(renamed, ["e_form", "gap"])
    assert both["e_form"] == digests.content(records, ["e_form"])["e_form"] != both["gap"]


def test_content_survives_the_disk(part: Dataset, tmp_path) -> None:
    store.save(tmp_path / "a.h5", part.store)
    assert digests.content(store.load(tmp_path / "a.h5"), ["e_form"]) == digests.content(part.store, ["e_form"])


def test_a_base_has_a_digest_of_its_own_and_leaves_the_labels_whole(part: Dataset) -> None:
    low = np.linspace(0, 1, len(part.store))[:, None]
    split = splits.random(part.store, part.store.label("e_form"), seed=0, draw=None, val=0.1, test=0.1, train_size=None)

    def with_base(values):
        data = batches.batches(part, ["e_form"], split, values)
        return digests.of(data, part, fresh_model().spec, CONFIG, {"e_form": "content"}, base={"name": "PBE"})

    one, other = with_base(low), with_base(low + 0.5)
    assert one["base_name"] == "PBE"
    assert one["base"] not in (None, other["base"])
    assert one["test"] == of(part)["test"]


@pytest.mark.parametrize(
    "word", ["encoder.dim=32", "readout=attention", "encoder=cgcnn graph.cutoff=6", "trunk.depth=2", "head=mlp"]
)
def test_sources_of_another_shape_have_another_digest(word: str) -> None:
    def shape(*words: str) -> str:
        node = config("pretrain", *words)
        return digests.shape({key: node[key] for key in ("encoder", "readout", "trunk", "head", "graph")})

    assert shape() == shape("fit.epochs=7")
    assert shape() != shape(*word.split())
    assert shape() == shape("graph=full"), "the quotient graph gives the same predictions"


def test_functionals_are_part_of_the_shape_by_their_number() -> None:
    spec = fresh_model().spec
    found = {
        digests.shape(spec | {"functionals": names}) for names in ([], ["PBE", "HSE"], ["A", "B"], ["A", "B", "C"])
    }
    assert len(found) == 3
