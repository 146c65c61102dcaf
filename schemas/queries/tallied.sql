-- As campaigns.sql, of those campaigns whose tally holds: the tally, and what has changed since. When
-- each was counted, its `until`, has been asked before: a join with the tallies takes long to plan.
-- All is added up. What a recipient who stirred since the tally adds to it is what all its rows say
-- less what those from before say (sign is -1, as UInt64, in which sums wrap); one who did not stir
-- adds nothing. The number and the marks of all rows have to be what the sums say, or what the tally
-- was made of is not what there is (or it was counted anew meanwhile): only where the last two columns
-- are 0 the others hold (and asking so here takes a tenth longer to plan).
WITH
    {formulas},
    name -> toDateTime(
        transform(name, {campaigns:Array(String)}, {untils:Array(UInt32)}, 0), 'UTC') AS counted,
    stirred AS
    (
        SELECT campaign, recipient
        FROM events
        WHERE campaign IN {campaigns:Array(String)} AND ts >= counted(campaign)
            AND ts >= toDateTime(arrayMin({untils:Array(UInt32)}), 'UTC')
    )
SELECT campaign, {rates}, c.events AS events, c.marks AS marks
FROM
(
    SELECT
        campaign, sum(f.events) AS events, sum(f.marks) AS marks, sumForEach(f.figures) AS figures
    FROM
    (
        SELECT campaign, events, marks, figures
        FROM tallies FINAL
        WHERE campaign IN {campaigns:Array(String)} AND until = counted(campaign)
        UNION ALL
        SELECT
            campaign, toUInt64(-count() - (SELECT count() FROM events WHERE {asked_not})),
            toUInt64(-sum(mark) - (SELECT sum(mark) FROM events WHERE {asked_not})), []
        FROM events
        WHERE campaign IN {campaigns:Array(String)}
        GROUP BY campaign
        UNION ALL
        SELECT campaign, count(), sum(mark), []
        FROM events
        WHERE campaign IN {campaigns:Array(String)} AND ts >= counted(campaign)
            AND ts >= toDateTime(arrayMin({untils:Array(UInt32)}), 'UTC')
        GROUP BY campaign
        UNION ALL
        SELECT campaign, 0, 0, arrayMap(figure -> sign * figure, {figures})
        FROM
        (
            SELECT campaign, recipient, sign, {reader}
            FROM
            (
                SELECT campaign, send, recipient, sign, {mails}
                FROM events
                ARRAY JOIN [toUInt64(1), toUInt64(-1)] AS sign
                WHERE campaign GLOBAL IN (SELECT campaign FROM stirred)
                    AND recipient GLOBAL IN (SELECT recipient FROM stirred)
                    AND (sign = 1 OR ts < counted(campaign))
                GROUP BY campaign, send, recipient, sign
            ) AS m
            GROUP BY campaign, recipient, sign
        ) AS r
    ) AS f
    GROUP BY campaign
) AS c
