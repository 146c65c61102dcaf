-- The number and the marks of the rows of some tallied campaigns from before their tally, of so long ago:
-- of all rows, whose sums are kept, less those since. With the opt-outs, of which a tally was made too.
WITH
    name -> toDateTime(
        transform(name, {campaigns:Array(String)}, {untils:Array(UInt32)}, 0), 'UTC') AS counted
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
    WHERE campaign IN {campaigns:Array(String)} AND ts >= counted(campaign)
        AND ts >= toDateTime(arrayMin({untils:Array(UInt32)}), 'UTC')
    GROUP BY campaign
) AS b
GROUP BY campaign
