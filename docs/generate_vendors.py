"""Write the table of vendors into docs/vendors.md, from the rows by which they are called.

Run ``python docs/generate_vendors.py`` after a change of ``kor_core.adapters.vendors``. A test
fails while the page is out of date.
"""

from pathlib import Path
from typing import Final

from kor_core.adapters.vendors import COMPATIBLE, CompatibleVendor

PAGE: Final = Path(__file__).parent / "vendors.md"
BEGIN: Final = "<!-- generated: python docs/generate_vendors.py -->\n"
END: Final = "<!-- end -->\n"


def table() -> str:
    """Return the rows as Markdown."""
    head = "| reference | vendor | endpoint | key |\n|---|---|---|---|\n"
    return head + "".join(map(_row, COMPATIBLE.values()))


def _row(row: CompatibleVendor) -> str:
    reference = "<deployment>" if row.deployments else "<model>"
    endpoint = f"`{row.base_url}`" if row.base_url else _named("`base_url`", row.urls)
    keys = ", ".join(f"`{name}`" for name in row.keys)
    needs = f"none needed; {keys}" if keys else "none needed"
    key = needs if row.local else keys
    return f"| `{row.id}:{reference}` | [{row.name}]({row.source}) | {endpoint} | {key} |\n"


def _named(setting: str, variables: tuple[str, ...]) -> str:
    return " or ".join([setting, *(f"`{name}`" for name in variables)])


def page(text: str) -> str:
    """Return the page with the table as it must be.

    Args:
        text: the page as it is, with the two marks around the table.
    """
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n{table()}\n{END}{after}"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
