-- As campaigns.sql, of those campaigns whose tally holds: the tally, and what has changed since.
-- All is added up. What a recipient who stirred since the tally adds to it is what all its rows say
-- less what those from before say (sign is -1, as UInt64, in which sums wrap); one who did not stir
-- adds nothing. The number and the marks of all rows have to be what the sums say, or what the tally
-- was made of is not what there is: only where the last two columns are 0 the others hold (and asking
-- so here takes a tenth longer to plan).
WITH
    {formulas},
    stirred AS
    (
        SELECT e.campaign AS campaign, recipient
        FROM events AS e
        GLOBAL INNER JOIN tallies AS t FINAL ON t.campaign = e.campaign
        WHERE e.campaign IN {campaigns:Array(String)} AND ts >= until AND ts >= (
            SELECT min(until) FROM tallies FINAL WHERE campaign IN {campaigns:Array(String)})
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
        WHERE campaign IN {campaigns:Array(String)}
        UNION ALL
        SELECT campaign, toUInt64(-count()), toUInt64(-sum(mark)), []
        FROM events
        WHERE campaign IN {campaigns:Array(String)}
        GROUP BY campaign
        UNION ALL
        SELECT e.campaign, count(), sum(mark), []
        FROM events AS e
        GLOBAL INNER JOIN tallies AS t FINAL ON t.campaign = e.campaign
        WHERE e.campaign IN {campaigns:Array(String)} AND ts >= until AND ts >= (
            SELECT min(until) FROM tallies FINAL WHERE campaign IN {campaigns:Array(String)})
        GROUP BY e.campaign
        UNION ALL
        SELECT campaign, 0, 0, arrayMap(figure -> sign * figure, {figures})
        FROM
        (
            SELECT campaign, recipient, sign, {reader}
            FROM
            (
                SELECT
                    e.campaign AS campaign, send, recipient, toUInt64(1 - 2 * number) AS sign,
                    {mail}
                FROM events AS e
                GLOBAL INNER JOIN tallies AS t FINAL ON t.campaign = e.campaign
                CROSS JOIN numbers(2) AS twice
                WHERE e.campaign GLOBAL IN (SELECT campaign FROM stirred)
                    AND recipient GLOBAL IN (SELECT recipient FROM stirred)
                    AND (number = 0 OR ts < until)
                GROUP BY campaign, send, recipient, number
            ) AS m
            GROUP BY campaign, recipient, sign
        ) AS r
    ) AS f
    GROUP BY campaign
) AS c
