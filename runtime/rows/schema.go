package rows

// A Schema is the columns of a CSV or Parquet output: the same in all parts.
type Schema struct{}
