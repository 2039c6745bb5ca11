"""Pages are Jinja2 templates: HTML files with places that are filled in."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template


def template(file: Path) -> Template:
    """The template in `file`: whatever is filled in is escaped, and a name that is not given is an error."""
    environment = Environment(
        loader=FileSystemLoader(file.parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.policies["json.dumps_kwargs"] = {}  # `tojson` would sort the keys, and their order may mean something
    return environment.get_template(file.name)
