"""Which files of a folder are read: links are followed, each file once."""

from pathlib import Path

from tltool.data.formats import structure_files


def test_folders_that_are_links_are_followed_once(tmp_path: Path) -> None:
    root, there = tmp_path / "root", tmp_path / "there"
    (root / "sub").mkdir(parents=True)
    there.mkdir()
    (there / "a.cif").touch()
    (root / "sub" / "b.cif").touch()
    (root / "link").symlink_to(there)
    (root / "sub" / "again").symlink_to(there)
    (root / "sub" / "loop").symlink_to(root)
    assert structure_files.files(root) == [root / "link" / "a.cif", root / "sub" / "b.cif"]
