"""`python -m robustcls` is the `robustcls` command."""

from robustcls.cli import main

if __name__ == "__main__":
    main()
