-- Once, when the container makes its database; in an older one run it by hand as its owner.
CREATE EXTENSION IF NOT EXISTS pg_stat_statements;
