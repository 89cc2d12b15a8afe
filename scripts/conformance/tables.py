"""What the clients that keep tables do against a live server: Parquet, Delta, Lance and Iceberg.

As `libraries` has it for the others: each client is a function of `Place`, and its docstring is the
sentence of docs/CONFORMANCE.md. Those that commit do it from several threads at once.
"""

from __future__ import annotations

import importlib.metadata
import os
from typing import Any

from bucket import Place, race, same


def _arrow(place: Place) -> Any:
    from pyarrow import fs

    return fs.S3FileSystem(
        scheme="https" if place.secure else "http",
        endpoint_override=place.host,
        tls_ca_file_path=place.authority or None,
    )


def pyarrow(place: Place) -> None:
    """a Parquet dataset of 1,000,000 rows written in partitions, read back filtered, its files
    listed, moved and removed"""
    import pyarrow as pa
    from pyarrow import dataset, fs

    files = _arrow(place)
    table = pa.table(
        {"n": range(1_000_000), "part": [n % 4 for n in range(1_000_000)], "x": [1.5] * 1_000_000}
    )
    root = f"{place.bucket}/table"
    dataset.write_dataset(
        table,
        root,
        filesystem=files,
        format="parquet",
        partitioning=["part"],
        max_rows_per_file=100_000,
        max_rows_per_group=50_000,
    )
    found = dataset.dataset(root, filesystem=files, format="parquet", partitioning=["part"])
    same(found.count_rows(), 1_000_000)
    chosen = found.to_table(filter=(dataset.field("part") == 3) & (dataset.field("n") < 1000))
    same(sorted(chosen["n"].to_pylist()), list(range(3, 1000, 4)))
    listed = files.get_file_info(fs.FileSelector(root, recursive=True))
    path = next(each.path for each in listed if each.type == fs.FileType.File)
    files.move(path, f"{place.bucket}/moved.parquet")
    files.delete_dir(root)
    left = [each.path for each in files.get_file_info(fs.FileSelector(place.bucket))]
    same(left, [f"{place.bucket}/moved.parquet"])


def _options(place: Place) -> dict[str, str]:
    """How clients on Rust's object_store are told where the server is."""
    return {"aws_endpoint_url": place.url, "aws_region": "us-east-1", "aws_allow_http": "true"}


def polars(place: Place) -> None:
    """a Parquet table written and scanned lazily with a predicate, over several files"""
    import polars as library

    options: dict[str, Any] = _options(place)
    for number in range(4):
        library.DataFrame({"n": range(number * 1000, number * 1000 + 1000)}).write_parquet(
            f"s3://{place.bucket}/table/{number}.parquet", storage_options=options
        )
    scanned = library.scan_parquet(f"s3://{place.bucket}/table/*.parquet", storage_options=options)
    same(scanned.filter(library.col("n") >= 2500).select("n").sum().collect().item(), 4_874_250)


def duckdb(place: Place) -> None:
    """httpfs: a partitioned Parquet table written by COPY, read with a glob and a filter, CSV
    there and back"""
    import duckdb as library

    database = library.connect()
    _load_httpfs(database)
    style = "" if not place.secure else f"SET ca_cert_file = '{place.authority}';"
    database.execute(
        f"""{style} CREATE SECRET (TYPE s3, KEY_ID '{os.environ["AWS_ACCESS_KEY_ID"]}',
            SECRET '{os.environ["AWS_SECRET_ACCESS_KEY"]}', REGION 'us-east-1',
            ENDPOINT '{place.host}', URL_STYLE 'path', USE_SSL {str(place.secure).lower()})"""
    )
    root = f"s3://{place.bucket}/table"
    database.execute(
        f"""COPY (SELECT range AS n, range % 4 AS part FROM range(500000))
            TO '{root}' (FORMAT parquet, PARTITION_BY (part))"""
    )
    asked = f"SELECT sum(n) FROM read_parquet('{root}/*/*.parquet') WHERE part = 1 AND n < 1000"
    same(database.execute(asked).fetchone(), (sum(range(1, 1000, 4)),))
    database.execute(f"COPY (SELECT 1 AS a, 'x' AS b) TO 's3://{place.bucket}/row.csv'")
    same(database.execute(f"FROM read_csv('s3://{place.bucket}/row.csv')").fetchall(), [(1, "x")])


def _load_httpfs(database: Any) -> None:
    """The extension comes from its package, since its own server may be out of reach."""
    for file in importlib.metadata.files("duckdb-ext-httpfs") or ():
        if file.suffix == ".duckdb_extension":
            database.execute(f"LOAD '{file.locate()}'")
            return
    raise FileNotFoundError("httpfs.duckdb_extension")


def deltalake(place: Place) -> None:
    """a table with 8 committers of 5 commits each at once, by conditional PUT alone: every row
    and every version is there; then compaction and time travel"""
    import pyarrow as pa
    from deltalake import CommitProperties, DeltaTable, write_deltalake

    options = {**_options(place), "aws_conditional_put": "etag"}
    url = f"s3://{place.bucket}/table"
    write_deltalake(url, pa.table({"who": [-1], "n": [0]}), storage_options=options)

    def commit(who: int) -> int:
        for number in range(5):
            write_deltalake(
                url,
                pa.table({"who": [who], "n": [number]}),
                mode="append",
                storage_options=options,
                commit_properties=CommitProperties(max_commit_retries=100),
            )
        return who

    same(race(8, commit), list(range(8)))
    table = DeltaTable(url, storage_options=options)
    rows = sorted(
        zip(*table.to_pyarrow_table(columns=["who", "n"]).to_pydict().values(), strict=True)
    )
    same(rows, [(-1, 0), *((who, n) for who in range(8) for n in range(5))])
    same(table.version(), 40)
    table.optimize.compact()
    same(table.to_pyarrow_table().num_rows, 41)
    same(DeltaTable(url, version=0, storage_options=options).to_pyarrow_table().num_rows, 1)


def lancedb(place: Place) -> None:
    """a table of vectors with 6 committers of 4 commits each at once, by conditional PUT; a
    search finds the nearest of them"""
    import lancedb as library

    database = library.connect(f"s3://{place.bucket}/lance", storage_options=_options(place))
    table = database.create_table("vectors", [{"vector": [0.0, 0.0], "who": -1}])

    def commit(who: int) -> int:
        mine = database.open_table("vectors")
        for number in range(4):
            mine.add([{"vector": [float(who), float(number)], "who": who}])
        return who

    same(race(6, commit), list(range(6)))
    table.checkout_latest()
    same(table.count_rows(), 25)
    same(table.search([5.0, 3.0]).limit(1).to_list()[0]["who"], 5)


def pyiceberg(place: Place) -> None:
    """a table in an SQL catalogue, its files here: 4 committers of 3 commits each at once with
    retries, a filtered scan, time travel"""
    import pyarrow as pa
    from pyiceberg.catalog.sql import SqlCatalog
    from pyiceberg.exceptions import CommitFailedException

    catalog = SqlCatalog(
        "local",
        uri=f"sqlite:///{place.folder}/catalogue.db",
        warehouse=f"s3://{place.bucket}/warehouse",
        **{"s3.endpoint": place.url, "s3.region": "us-east-1"},
    )
    catalog.create_namespace("space")
    rows = pa.table({"who": pa.array([-1], pa.int64()), "n": pa.array([0], pa.int64())})
    table = catalog.create_table("space.table", schema=rows.schema)
    table.append(rows)

    def commit(who: int) -> int:
        for number in range(3):
            row = pa.table({"who": [who], "n": [number]})
            for _ in range(100):
                try:
                    catalog.load_table("space.table").append(row)
                    break
                except CommitFailedException:
                    continue
        return who

    same(race(4, commit), list(range(4)))
    table = catalog.load_table("space.table")
    same(table.scan().to_arrow().num_rows, 13)
    same(table.scan(row_filter="who = 2").to_arrow().num_rows, 3)
    first = table.history()[0].snapshot_id
    same(table.scan(snapshot_id=first).to_arrow().num_rows, 1)
