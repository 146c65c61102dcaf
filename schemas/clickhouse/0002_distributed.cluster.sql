-- On a cluster every table is spread by its journal or place, and read through these.
CREATE TABLE IF NOT EXISTS {database}.events{on_cluster} AS {database}.events_local
ENGINE = Distributed({cluster_name}, {database}, events_local, cityHash64(journal));

CREATE TABLE IF NOT EXISTS {database}.dead_letter{on_cluster} AS {database}.dead_letter_local
ENGINE = Distributed({cluster_name}, {database}, dead_letter_local, cityHash64(topic, partition));

CREATE TABLE IF NOT EXISTS {database}.taken{on_cluster} AS {database}.taken_local
ENGINE = Distributed({cluster_name}, {database}, taken_local, cityHash64(journal));
