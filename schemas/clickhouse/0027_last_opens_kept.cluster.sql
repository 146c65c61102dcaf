-- What 0026 added.
ALTER TABLE {database}.last_opens{on_cluster}
    ADD COLUMN IF NOT EXISTS seen SimpleAggregateFunction(max, Date) DEFAULT today();
