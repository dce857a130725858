"""``python -m srzoo`` is ``srzoo``."""

from .cli import main

if __name__ == "__main__":
    main()
