-- The dates of a cluster; of each recipient any shard may have some.
CREATE TABLE IF NOT EXISTS {database}.last_opens{on_cluster} AS {database}.last_opens_local
ENGINE = Distributed({cluster_name}, {database}, last_opens_local, cityHash64(recipient));
