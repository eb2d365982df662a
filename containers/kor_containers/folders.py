"""Which file of a folder is a tenant's, as far as the file system can be trusted with ids."""

import os
from pathlib import Path

from kor_core.errors import ConfigurationError, Problem, TenantError

__all__ = ["file_of"]


def file_of(folder: Path, tenant: str) -> Path | None:
    """Return the file ``<id>.toml`` of a tenant, or None where there is none.

    Args:
        folder: holds the files.
        tenant: an id that is the name of a file and nothing more.

    Raises:
        TenantError: the file is a link that leads out of the folder.
        ConfigurationError: it is a folder, a pipe or a device.
    """
    path = folder / f"{tenant}.toml"
    if not os.path.lexists(path) or not _is_spelt_so(path):
        return None
    # Links inside are how Kubernetes mounts files; both sides, since the folder may be one too.
    if not Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder)):
        raise TenantError(
            f"The overlay of tenant '{tenant}' is a link that leads out of the folder of "
            "overlays. Put the file itself there.",
            tenant=tenant,
        )
    if path.exists() and not path.is_file():  # a pipe would be waited for
        raise ConfigurationError([Problem("Expected a file, found something else.", str(path))])
    return path


def _is_spelt_so(path: Path) -> bool:
    """Say whether the file has this very name: some file systems answer to `ACME` for `acme`."""
    twin = path.with_name(path.name.swapcase())
    ignores_case = twin.exists() and path.exists() and twin.samefile(path)
    return not ignores_case or path.name in {each.name for each in path.parent.iterdir()}
