-- The names of a cluster's erased events, spread as the events are.
CREATE TABLE IF NOT EXISTS {database}.erased{on_cluster} AS {database}.erased_local
ENGINE = Distributed({cluster_name}, {database}, erased_local, cityHash64(journal));

CREATE TABLE IF NOT EXISTS {database}.erasures{on_cluster} AS {database}.erasures_local
ENGINE = Distributed({cluster_name}, {database}, erasures_local, hash);

CREATE TABLE IF NOT EXISTS {database}.erasure_key{on_cluster} AS {database}.erasure_key_local
ENGINE = Distributed({cluster_name}, {database}, erasure_key_local, key0);
