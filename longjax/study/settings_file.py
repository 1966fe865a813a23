"""What a study, or an arm of it, was begun with: written once, and compared when it goes on."""

import json
import pathlib
from collections.abc import Callable
from typing import Any

from longjax import files
from longjax.files import read_object


def write_or_check_settings(
    path: pathlib.Path, settings: dict[str, Any], older: Callable[[dict[str, Any]], dict[str, Any]] = dict
) -> None:
    """Writes settings, or compares them with those of the run that is resumed.

    Args:
      path: the file.
      settings: of this run.
      older: translates the content of a file of an older release.

    Raises:
      ValueError: they differ. So results of two studies never mix.

    """
    content = json.dumps(settings, indent=1, sort_keys=True) + "\n"
    if not path.exists():
        files.write_atomically(path, content.encode())
    elif (old := older(read_object(path, "choose another folder, or delete this one"))) != (new := json.loads(content)):
        differ = [key for key in new if old.get(key) != new[key]] or [*old]
        raise ValueError(
            f"--run_dir: {path} was written with other settings ({', '.join(differ)}); "
            "choose another folder, or delete this one"
        )
