-- When a recipient was erased, and up to when their events stay out; see `heliograph export --help`.
SELECT
    formatDateTime(max(e.at), '%FT%TZ') AS erased_at,
    if(argMax(e.until, e.at) >= 9223372036854775808, 'for good',
        formatDateTime(fromUnixTimestamp64Milli(toInt64(argMax(e.until, e.at)), 'UTC'), '%FT%TZ'))
        AS kept_out_until
FROM erasures AS e
WHERE hash = sipHash64Keyed(
    (SELECT (max(key0), max(key1)) FROM erasure_key), {recipient:String})
GROUP BY hash
