-- How a user agent is called: the family of a mail client or browser, and the system. Filled from
-- schemas/rules/names by whatever migrates. (A dictionary of patterns may not be empty.)
CREATE TABLE IF NOT EXISTS {database}.names{local}{on_cluster}
(
    kind LowCardinality(String), -- client or system
    id UInt64,
    parent_id UInt64,
    regexp String,
    keys Array(String),
    `values` Array(String),
    version String
)
ENGINE = {replicated}MergeTree
ORDER BY (kind, id);

CREATE DICTIONARY IF NOT EXISTS {database}.client_names{on_cluster}
(
    regexp String,
    name String
)
PRIMARY KEY regexp
SOURCE(CLICKHOUSE(QUERY 'SELECT id, parent_id, regexp, keys, `values`
    FROM {database}.names{local} WHERE kind = \'client\'
    UNION ALL SELECT 65535, 0, \'^$\', [\'name\'], [\'\']'{access}))
LAYOUT(REGEXP_TREE)
LIFETIME(0);

CREATE DICTIONARY IF NOT EXISTS {database}.system_names{on_cluster}
(
    regexp String,
    name String
)
PRIMARY KEY regexp
SOURCE(CLICKHOUSE(QUERY 'SELECT id, parent_id, regexp, keys, `values`
    FROM {database}.names{local} WHERE kind = \'system\'
    UNION ALL SELECT 65535, 0, \'^$\', [\'name\'], [\'\']'{access}))
LAYOUT(REGEXP_TREE)
LIFETIME(0);

-- Hits with their verdicts, and what fetched them: the mail client's or browser's family, and the
-- system; '' where the agent does not tell.
CREATE OR REPLACE VIEW {database}.hits{on_cluster} AS
SELECT
    campaign, send, recipient, ts, kind, method, class, rule, ruleset,
    dictGet('{database}.client_names', 'name', user_agent) AS client,
    dictGet('{database}.system_names', 'name', user_agent) AS system,
    user_agent, address, sent_at, link, journal, seq
FROM {database}.events
WHERE kind IN ('open', 'click');
