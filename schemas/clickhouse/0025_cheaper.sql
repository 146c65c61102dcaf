-- Statistics of each column took a tenth of an insert and of a merge.
-- Parts are merged ten at a time, not five: a row is written again half as often.
ALTER TABLE {database}.events{local}{on_cluster}
MODIFY SETTING auto_statistics_types = '', merge_selector_base = 10;
