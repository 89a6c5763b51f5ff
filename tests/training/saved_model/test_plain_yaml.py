"""Aliases of a user's YAML are fine as long as they stand for few values."""

import pytest

from tltool.training.saved_model.plain_yaml import is_bomb

BOMB = "a0: &a0 [x, x]\n" + "".join(f"a{k}: &a{k} [*a{k - 1}, *a{k - 1}]\n" for k in range(1, 40))


@pytest.mark.parametrize(
    ("text", "bomb"),
    [
        (BOMB, True),
        ("base: &base {lr: 0.1}\none: *base\ntwo: {<<: *base, seed: 1}\n", False),
        ("a: 1\n", False),
        ("a: [1\n", False),
        ("a: *nothing\n", False),
    ],
)
def test_aliases_are_counted_by_what_they_stand_for(text: str, bomb: bool) -> None:
    assert is_bomb(text) is bomb
