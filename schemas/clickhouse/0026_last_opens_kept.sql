-- So that an entry of whom no open was seen can end: the last day of the month in which something else
-- was last seen; 1970-01-01 where there was only opens. Entries of before count as seen now.
ALTER TABLE {database}.last_opens{local}{on_cluster}
    ADD COLUMN IF NOT EXISTS seen SimpleAggregateFunction(max, Date) DEFAULT today();
ALTER TABLE {database}.last_opens{local}{on_cluster} MATERIALIZE COLUMN seen;
