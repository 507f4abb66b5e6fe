"""``python -m hangup``."""

from ._cli.main import main

if __name__ == "__main__":
    main(prog_name="python -m hangup")
