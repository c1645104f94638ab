"""Everything of a run as tables in files, for pandas, polars, DuckDB, R or a spreadsheet: one folder with a manifest.

::

    run.export("pythia-70m-tables", format="parquet")
    pandas.read_parquet("pythia-70m-tables/curves.parquet")
"""

from trajsvc.export.folder import FORMATS, export_run

__all__ = ["FORMATS", "export_run"]
