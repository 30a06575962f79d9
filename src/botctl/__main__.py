"""`python -m botctl` is the command `botctl`."""

from botctl.cli.main import run

if __name__ == "__main__":
    run()
