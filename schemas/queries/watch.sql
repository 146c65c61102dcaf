-- Opens and clicks from a time on (Unix milliseconds), with their identities.
SELECT
    journal, seq, toUnixTimestamp64Milli(ts) AS at,
    replaceRegexpOne(formatDateTime(ts, '%FT%T%z', {tz:String}), '(..)$', ':\\1') AS time,
    kind, campaign, recipient, link, user_agent
FROM events
WHERE kind IN ('open', 'click') AND method = 'GET'
    AND ts >= fromUnixTimestamp64Milli({since:Int64})
    AND ({campaign:String} = '' OR campaign = {campaign:String})
ORDER BY ts, journal, seq
LIMIT {limit:UInt64}
