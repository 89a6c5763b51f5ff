from support import fresh_model

from tltool.model.surgery.layer_depth import below, depths


def test_depth_counts_from_the_head_downwards() -> None:
    found = depths(fresh_model(("e_form", "gap")))
    assert {found["heads.gap.weight"], found["scalers.e_form.spread"]} == {0}
    assert found["trunk.layers.0.weight"] == 1
    assert [found[f"encoder.blocks.{k}.receiver.bias"] for k in (2, 1, 0)] == [2, 3, 4]
    assert found["encoder.blocks.0.norm_edges.mean"] == 4
    assert found["encoder.embedding.weight"] == max(found.values()) == 5


def test_what_is_below_rests_as_a_whole_and_nothing_else() -> None:
    model = fresh_model()
    held = below(model, 1)
    assert {"encoder", r"encoder\.blocks\.0\.norm_edges"} <= set(held)
    assert not [name for name in held if name.startswith(("trunk", "readout", "heads", "scalers"))]
    assert below(model, 5) == []
    assert {"encoder", "encoder\\.blocks"}.isdisjoint(below(model, 2))
