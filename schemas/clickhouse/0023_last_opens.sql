-- In hygiene mode, of each recipient of whom anything was seen the date (UTC) of the last open of
-- class human or proxy; 1970-01-01 where there was none. Earlier dates go when parts are merged,
-- which the engine does with all that are an hour old.
CREATE TABLE IF NOT EXISTS {database}.last_opens{local}{on_cluster}
(
    recipient String CODEC(ZSTD(1)),
    day SimpleAggregateFunction(max, Date)
)
ENGINE = {replicated}AggregatingMergeTree
ORDER BY recipient
SETTINGS fsync_after_insert = 1, fsync_part_directory = 1, min_age_to_force_merge_seconds = 3600;
