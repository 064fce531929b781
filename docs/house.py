"""Draws docs/dev/house.svg, the packages of octo_pipeline and their imports: `make house`.

Rooms stand in the order of import-linter's layers, and every arrow points down. An arrow that follows from others is left
out: if cli imports services and services import tables, whether cli imports tables too is not drawn.
"""

import tomllib
from html import escape
from itertools import chain
from pathlib import Path

import grimp

ROOT = Path(__file__).parents[1]
PICTURE = ROOT / "docs" / "dev" / "house.svg"
PACKAGE = "octo_pipeline"
_ROW, _BOX, _LEFT, _TOP, _WIDTH = 44, 132, 250, 16, 1080


def layers() -> list[list[str]]:
    """The rooms from the top down; rooms of one layer do not import each other."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    (layered,) = [contract for contract in contracts if contract["type"] == "layers"]
    return [[room.strip() for room in layer.split("|")] for layer in layered["layers"]]


def imports() -> set[tuple[str, str]]:
    """Which room imports which."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    rooms = graph.find_children(PACKAGE)
    for room in rooms:
        graph.squash_module(room)
    name = len(PACKAGE) + 1
    return {
        (room[name:], other[name:])
        for room in rooms
        # A package that imports one of its own modules imports itself once it is squashed.
        for other in graph.find_modules_directly_imported_by(room) & rooms - {room}
    }


def without_implied(arrows: set[tuple[str, str]]) -> set[tuple[str, str]]:
    """The arrows that do not follow from others."""
    reached: dict[str, set[str]] = {}

    def below(room: str) -> set[str]:
        if room not in reached:
            direct = {target for source, target in arrows if source == room}
            reached[room] = direct.union(*map(below, direct))
        return reached[room]

    return {
        (source, target)
        for source, target in arrows
        if not any(target in below(between) for room, between in arrows if room == source)
    }


def meaning(room: str) -> str:
    """The first sentence of the room's docstring."""
    folder = ROOT / PACKAGE / room
    text = (folder / "__init__.py" if folder.is_dir() else folder.with_suffix(".py")).read_text()
    return text.removeprefix('"""').partition("\n")[0].removesuffix('"""').partition(". ")[0].rstrip(".")


def picture() -> str:
    """The drawing as SVG."""
    rooms = list(chain.from_iterable(layers()))
    middle = {room: _TOP + _ROW * row + _ROW // 2 - 5 for row, room in enumerate(rooms)}
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_TOP * 2 + _ROW * len(rooms)}" '
        'font-family="sans-serif" font-size="14">',
        '<defs><marker id="head" viewBox="0 0 8 8" refX="7" refY="4" markerWidth="7" markerHeight="7" orient="auto">'
        '<path d="M0 0 8 4 0 8z" fill="#546e7a"/></marker></defs>',
        '<rect width="100%" height="100%" rx="6" fill="#fafafa"/>',
    ]
    for source, target in sorted(without_implied(imports()), key=lambda arrow: (rooms.index(arrow[0]), arrow[1])):
        begin, end = middle[source] + 7, middle[target] - 7
        out = _LEFT - 18 - (rooms.index(target) - rooms.index(source)) * 18
        parts.append(
            f'<path d="M{_LEFT} {begin}C{out} {begin} {out} {end} {_LEFT} {end}" fill="none" stroke="#546e7a" '
            'stroke-width="1.3" marker-end="url(#head)"/>'
        )
    for room, y in middle.items():
        parts.append(
            f'<rect x="{_LEFT}" y="{y - 15}" width="{_BOX}" height="30" rx="4" fill="#cfd8dc" stroke="#546e7a"/>'
            f'<text x="{_LEFT + _BOX / 2:g}" y="{y + 5}" text-anchor="middle" font-weight="bold">{room}</text>'
            f'<text x="{_LEFT + _BOX + 14}" y="{y + 5}" font-size="13" fill="#37474f">{escape(meaning(room))}</text>'
        )
    return "\n".join([*parts, "</svg>", ""])


if __name__ == "__main__":
    PICTURE.write_text(picture())
