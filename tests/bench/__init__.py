"""The benchmark: `make bench`. README.md names its files and has what it measured."""
