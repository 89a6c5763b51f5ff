"""Write tltool/matscholar.npz: python scripts/build_matscholar.py matscholar-embedding.json.

The file is the one that Roost and CGAT ship (MIT licence), and the package ElementEmbeddings 0.8.0 too (MIT licence):
{symbol: 200 numbers}, word2vec on abstracts of materials science by Weston and others, doi:10.1021/acs.jcim.9b00470.
"""

import json
import sys
from pathlib import Path

import numpy as np

from tltool.elements import number_of

LAST = 103


def main(source: Path, path: Path) -> None:
    """Write the vectors (103, 200) of hydrogen to lawrencium, float32, to ``path``."""
    found = {number_of(symbol): vector for symbol, vector in json.loads(source.read_text(encoding="utf-8")).items()}
    vectors = np.array([found[number] for number in range(1, LAST + 1)], dtype=np.float32)
    np.savez_compressed(path, vectors=vectors)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parents[1] / "tltool" / "matscholar.npz")
