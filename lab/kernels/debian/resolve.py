# SPDX-License-Identifier: MIT
"""What has to be unpacked together: the closure of packages under Depends and Pre-Depends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lab.errors import FetchError

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from lab.kernels.debian.archive import Index, Package


class Resolver:
    """Finds packages in some suites' indexes; of several versions the newest wins."""

    def __init__(self, indexes: Sequence[Index], without: Collection[str] = ()) -> None:
        self._indexes = indexes
        self._without = frozenset(without)

    def find(self, name: str, wants: tuple[str, str] | None = None) -> Package | None:
        """Return the newest package of a name, real or virtual, that satisfies (operator, version)."""
        from debian.debian_support import Version  # noqa: PLC0415 - a warm run resolves nothing

        real = [package for index in self._indexes for package in index.named(name)]
        good = [package for package in real if wants is None or _satisfies(package.version, *wants)]
        if good:
            return max(good, key=lambda package: Version(package.version))
        # A virtual package rarely has a version; Debian itself asks for one only where it has.
        provided = [package for index in self._indexes for package in index.providing(name)]
        return max(provided, key=lambda package: Version(package.version)) if provided else None

    def closure(self, names: Sequence[str]) -> list[Package]:
        """Return the named packages and all that they need, by name.

        Raises FetchError naming the package whose need nothing fills.
        """
        chosen: dict[str, Package] = {}
        todo: list[tuple[str, tuple[str, str] | None, str]] = [(name, None, "the root") for name in names]
        while todo:
            name, wants, by = todo.pop(0)
            package = self.find(name, wants)
            if package is None:
                raise FetchError(
                    f"{by} needs the package {name}{_said(wants)}, which {self._where()} does not have",
                    hint="the mirror may be incomplete: try another (CHANLAB_DEBIAN_MIRROR)",
                )
            if package.name in chosen:
                continue
            chosen[package.name] = package
            todo += self._needs(package, chosen)
        return [chosen[name] for name in sorted(chosen)]

    def _needs(
        self, package: Package, chosen: dict[str, Package]
    ) -> list[tuple[str, tuple[str, str] | None, str]]:
        from debian.deb822 import PkgRelation  # noqa: PLC0415 - see find()

        if not package.depends:
            return []
        needs = []
        for alternatives in PkgRelation.parse_relations(package.depends):
            if any(one["name"] in self._without or one["name"] in chosen for one in alternatives):
                continue
            one = next((one for one in alternatives if self._fits(one)), alternatives[0])
            needs.append((one["name"], one.get("version"), package.name))
        return needs

    def _fits(self, relation: Any) -> bool:
        return self.find(relation["name"], relation.get("version")) is not None

    def _where(self) -> str:
        return ", ".join(index.suite.name for index in self._indexes)


def _satisfies(version: str, operator: str, wanted: str) -> bool:
    from debian.debian_support import version_compare  # noqa: PLC0415 - see Resolver.find()

    order = version_compare(version, wanted)
    holds = {"<<": order < 0, "<=": order <= 0, "=": order == 0, ">=": order >= 0, ">>": order > 0}
    return holds[operator]


def _said(wants: tuple[str, str] | None) -> str:
    return f" ({wants[0]} {wants[1]})" if wants else ""
