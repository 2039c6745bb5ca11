"""Web pages from Jinja2 templates."""

from pathlib import Path


def fill(file: Path, **values: object) -> str:
    """The template in `file` with `values`, each of them escaped; a missing name is an error."""
    # Not at the top: every training run imports the report, and Jinja2 would delay its first step by 0.1 s.
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(file.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {}  # `tojson` would sort the keys, and their order may mean something
    return environment.get_template(file.name).render(values)
