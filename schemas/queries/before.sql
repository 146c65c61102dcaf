-- The number and the marks of the rows of some tallied campaigns from before their tally, of so long ago:
-- of all rows, whose sums are kept, less those since. With the opt-outs, of which a tally was made too.
WITH
    name -> toDateTime(
        transform(name, {campaigns:Array(String)}, {untils:Array(UInt32)}, 0), 'UTC') AS counted,
    toDateTime(arrayMin({untils:Array(UInt32)}), 'UTC') AS oldest
SELECT campaign, sum(b.events) AS events, sum(b.marks) AS marks
FROM
(
    SELECT
        campaign,
        count() + (SELECT count() FROM events WHERE {asked_not}) AS events,
        sum(mark) + (SELECT sum(mark) FROM events WHERE {asked_not}) AS marks
    FROM events
    WHERE campaign IN {campaigns:Array(String)}
    GROUP BY campaign
    UNION ALL
    SELECT campaign, toUInt64(-count()), toUInt64(-sum(mark))
    FROM events
    WHERE campaign IN {campaigns:Array(String)} AND ts >= oldest AND ts >= counted(campaign)
    GROUP BY campaign
    UNION ALL
    SELECT tallied, toUInt64(-count()), toUInt64(-sum(mark))
    FROM events
    ARRAY JOIN {campaigns:Array(String)} AS tallied
    WHERE {asked_not} AND ts >= oldest AND ts >= counted(tallied)
    GROUP BY tallied
) AS b
GROUP BY campaign
