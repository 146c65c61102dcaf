-- The tallies of a cluster, with their figures.
DROP TABLE IF EXISTS {database}.tallies{on_cluster} SYNC;

CREATE TABLE IF NOT EXISTS {database}.tallies{on_cluster} AS {database}.tallies_local
ENGINE = Distributed({cluster_name}, {database}, tallies_local, cityHash64(campaign));
