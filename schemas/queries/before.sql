-- The number and the marks of the rows of some tallied campaigns from before their tally, of so long ago:
-- of all rows, whose sums are kept, less those since, opt-outs too; and, without a campaign, of all opt-outs.
WITH
    name -> toDateTime(
        transform(name, {campaigns:Array(String)}, {untils:Array(UInt32)}, 0), 'UTC') AS counted,
    toDateTime(arrayMin({untils:Array(UInt32)}), 'UTC') AS oldest
SELECT campaign, sum(b.events) AS events, sum(b.marks) AS marks
FROM
(
    SELECT campaign, count() AS events, sum(mark) AS marks
    FROM events
    WHERE campaign IN {campaigns:Array(String)} OR {asked_not}
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
