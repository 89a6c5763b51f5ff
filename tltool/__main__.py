"""``python -m tltool``."""

from tltool.cli import main

if __name__ == "__main__":
    main()
