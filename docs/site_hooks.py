"""Hooks of the documentation site: shows the pages and figures of results/ beside docs/, without copies of them."""

import pathlib
import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = pathlib.Path(__file__).parents[1]
SHOWN = (".md", ".png", ".csv", ".json")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds results/ to the site, as results/."""
    for path in sorted((ROOT / "results").rglob("*")):
        if path.suffix in SHOWN and path.name != "discussion.md":  # which is a part of STUDY.md
            name = path.relative_to(ROOT).as_posix()
            files.append(File.generated(config, name, abs_src_path=str(path)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Links of docs/ to results/ lead out of the folder in the repository, but not in the site."""
    return re.sub(r"(\]\()((?:\.\./)*)\.\./results/", r"\1\2results/", markdown)
