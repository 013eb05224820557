"""`data`: what to learn from."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, model_validator

from compress.recipe.base import Section

Column = str | int
Joined = Column | tuple[Column, ...]
LaterColumn = Annotated[Joined | None, Field(exclude_if=lambda columns: columns is None)]
"""Columns that came after the first recipes: left out of the dump where absent, so that digests stay as they were."""
REQUEST_FIELDS = ("text", "text_pair", "id")
"""What a request may hold, whatever its columns were called in training."""


class Columns(Section):
    """Which column holds what: by name, or by position from 0 when the file has no header."""

    id: Column | None = None
    """Identifier of a row; the row's number when absent."""
    text: Joined = "text"
    """The text; several columns are joined with a space."""
    text_pair: Joined | None = None
    """The second text, for pairs."""
    label: Column | None = "label"
    """The label; not needed for unlabeled data."""
    group: Column | None = None
    """Rows of one group stay on one side of a fractional split; for ranking the query, when absent told by its text."""
    weight: Column | None = None
    """Weight of the row in the hard-label loss, above 0; not for ranking."""
    privileged: LaterColumn = None
    """What the teacher alone reads after the text (clicks, a long description …); requests need not have it."""
    privileged_pair: LaterColumn = None
    """The same after the second text."""

    @property
    def privileged_columns(self) -> dict[str, tuple[Column, ...]]:
        """Field (text, text_pair) -> the columns that the teacher alone reads after it, where there are any."""
        given = {"text": self.privileged, "text_pair": self.privileged_pair}
        return {name: as_tuple(joined) for name, joined in given.items() if joined is not None}


def as_tuple(columns: Joined | None) -> tuple[Column, ...]:
    """The columns that are joined into one text."""
    return columns if isinstance(columns, tuple) else () if columns is None else (columns,)


class TableSource(Section):
    """A table on disk or on a hub."""

    path: str | tuple[str, ...] | None = None
    """File, glob, `.gz` file, or archive member `zip://member::file.zip`; a list is read in order."""
    hub: str | None = None
    """Data set id on a hub, instead of a path."""
    name: str | None = None
    """Configuration name of the hub data set."""
    split: str = "train"
    """Split of the hub data set."""
    format: Literal["csv", "tsv", "jsonl", "parquet"] | None = None
    """File format; from the file's ending when absent."""
    delimiter: Annotated[str, Field(min_length=1, max_length=1)] | None = None
    """What stands between the fields of csv: a comma, or as for `train`, when absent; tsv has tabs."""
    header: bool | None = None
    """Whether the first line names the columns (csv, tsv); default true, or as for `train`."""
    quoting: Literal["csv", "none"] | None = None
    """`none`: a quote is a character like any other (csv, tsv); default csv, or as for `train`."""
    columns: Columns | None = None
    """Which column holds what; as for `train` when absent."""
    limit: Annotated[int, Field(ge=1)] | None = None
    """Read at most this many rows."""

    @model_validator(mode="after")
    def _one_origin(self) -> TableSource:
        if (self.path is None) == (self.hub is None):
            raise ValueError("give exactly one of `path` and `hub`")
        return self


class Fraction(Section):
    """A share of the training rows, stratified by label, or by whole groups when a group column is given."""

    fraction: Annotated[float, Field(gt=0, lt=1)]
    """Share of the training rows, 0 to 1."""


def _split_kind(value: Any) -> str:
    has = "fraction" in value if isinstance(value, dict) else isinstance(value, Fraction)
    return "fraction" if has else "table"


Split = Annotated[
    Annotated[TableSource, Tag("table")] | Annotated[Fraction, Tag("fraction")], Discriminator(_split_kind)
]


class Transfer(Section):
    """Rows made from the training rows, answered once by the teacher: more to learn from when labels are few."""

    variants: Annotated[int, Field(ge=0)] = 0
    """Training texts with words dropped, replaced or cut away; for ranking only of the documents."""
    random_pairs: Annotated[int, Field(ge=0)] = 0
    """For two texts: a first text with the second text of any other row."""
    hard_pairs: Annotated[int, Field(ge=0)] = 0
    """For two texts: a first text with a second text that shares its rare words."""


class FilesData(Section):
    """Tables of the user's own."""

    kind: Literal["files"] = "files"
    """The kind of data."""
    root: str | None = None
    """Folder before every relative path; itself relative to the recipe's file."""
    train: TableSource
    """Labelled rows to learn from."""
    validation: Split = Fraction(fraction=0.1)
    """Rows that pick checkpoints and thresholds: a table, or a share of the training rows."""
    test: Split = Fraction(fraction=0.1)
    """Rows that only the reported figures see: a table, or a share of the training rows."""
    unlabeled: TableSource | tuple[TableSource, ...] | None = None
    """Transfer set: texts without labels, answered once by the teacher."""
    transfer: Transfer = Transfer()
    """More of a transfer set, made from the training rows."""
    overlap: Literal["warn", "drop"] = "warn"
    """Rows whose texts also stand in a split that is measured on (test, then validation): warn, or drop them."""
    slices: Annotated[tuple[Column, ...], Field(exclude_if=lambda columns: not columns)] = ()
    """Columns of the test rows by whose values the certificate is sliced (brand, country …); no model reads them."""

    @model_validator(mode="after")
    def _slices_differ(self) -> FilesData:
        twice = [column for column in self.slices if self.slices.count(column) > 1]
        if twice:
            raise ValueError(f"data.slices names {twice[0]!r} twice: leave one out")
        return self

    @property
    def hubs(self) -> tuple[str, ...]:
        """Ids of the data sets on a hub that it names, those to learn from first."""
        unlabeled = self.unlabeled if isinstance(self.unlabeled, tuple) else (self.unlabeled,)
        sources = (self.train, *unlabeled, self.validation, self.test)
        found = [each.hub for each in sources if isinstance(each, TableSource) and each.hub is not None]
        return tuple(dict.fromkeys(found))

    @property
    def joined_columns(self) -> dict[str, tuple[str, ...]]:
        """Field (text, text_pair) -> the training columns joined into it, where these have other names than the field.

        A field whose columns have positions instead of names is left out.
        """
        columns = self.train.columns or Columns()
        found = {}
        for name, given in (("text", columns.text), ("text_pair", columns.text_pair)):
            joined = as_tuple(given)
            names = tuple(column for column in joined if isinstance(column, str))
            if names and len(names) == len(joined) and names != (name,):
                found[name] = names
        return found

    @property
    def privileged_columns(self) -> dict[str, tuple[Column, ...]]:
        """Field (text, text_pair) -> the training columns that the teacher alone reads after it."""
        return (self.train.columns or Columns()).privileged_columns

    def tables(self) -> dict[str, TableSource]:
        """Place in the recipe -> table, for every table that is read."""
        given: list[tuple[str, object]] = [
            ("data.train", self.train),
            ("data.validation", self.validation),
            ("data.test", self.test),
        ]
        if isinstance(self.unlabeled, tuple):
            given += [(f"data.unlabeled.{place}", source) for place, source in enumerate(self.unlabeled)]
        else:
            given.append(("data.unlabeled", self.unlabeled))
        return {key: source for key, source in given if isinstance(source, TableSource)}


class SimulatedShop(Section):
    """The built-in, seeded shop: simulated products and queries, so that everything runs without a download."""

    kind: Literal["simulated-shop"]
    """The kind of data."""
    products: Annotated[int, Field(ge=50, le=1_000_000)] = 2000
    """Products in the catalogue."""
    train: Annotated[int, Field(ge=50)] = 4000
    """Labelled training rows."""
    validation: Annotated[int, Field(ge=20)] = 1000
    """Validation rows."""
    test: Annotated[int, Field(ge=20)] = 1000
    """Test rows."""
    unlabeled: Annotated[int, Field(ge=0)] = 0
    """Transfer rows without labels."""
    transfer: Transfer = Transfer()
    """More of a transfer set, made from the training rows."""

    @property
    def hubs(self) -> tuple[str, ...]:
        """None: it is made here."""
        return ()

    @property
    def joined_columns(self) -> dict[str, tuple[str, ...]]:
        """Its columns have the names of the fields."""
        return {}

    @property
    def privileged_columns(self) -> dict[str, tuple[Column, ...]]:
        """Its products have nothing that a request lacks."""
        return {}


def _data_kind(value: Any) -> str:
    return str(value.get("kind", "files") if isinstance(value, dict) else getattr(value, "kind", "files"))


Data = Annotated[
    Annotated[FilesData, Tag("files")] | Annotated[SimulatedShop, Tag("simulated-shop")], Discriminator(_data_kind)
]
