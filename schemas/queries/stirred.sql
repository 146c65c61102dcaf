-- What the recipients of some campaigns who stirred since their campaign's tally, of so long ago, or who
-- opted out or in since, add to its figures: what all their rows say less what those from before say.
WITH
    name -> transform(name, {campaigns:Array(String)}, {untils:Array(UInt32)}, 0) AS counted,
    toDateTime(arrayMin({untils:Array(UInt32)}), 'UTC') AS oldest,
    4294967295 AS ever
SELECT campaign, sumForEach(arrayMap(figure -> sign * toInt64(figure), {figures})) AS figures
FROM
(
    SELECT campaign, recipient, sign, {reader}
    FROM
    (
        SELECT
            campaign, send, recipient, sign,
            (recipient, if(sign = 1, ever, counted(campaign))) GLOBAL IN (
                SELECT recipient, moment
                FROM events
                ARRAY JOIN arrayDistinct(arrayPushBack({untils:Array(UInt32)}, ever)) AS moment
                WHERE {asked_not} AND ts < toDateTime(moment, 'UTC')
                    AND recipient GLOBAL IN
                    (
                        SELECT recipient FROM events
                        WHERE campaign IN {campaigns:Array(String)} AND ts >= oldest
                        UNION ALL
                        SELECT recipient FROM events WHERE {asked_not} AND ts >= oldest
                    )
                GROUP BY recipient, moment
                HAVING {stays_out}) AS opted_out,
            {heard}
        FROM events
        ARRAY JOIN [toInt64(1), toInt64(-1)] AS sign
        WHERE campaign IN {campaigns:Array(String)}
            AND (sign = 1 OR ts < toDateTime(counted(campaign), 'UTC'))
            AND recipient GLOBAL IN
            (
                SELECT recipient
                FROM events
                WHERE campaign IN {campaigns:Array(String)} AND ts >= oldest
                    AND ts >= toDateTime(counted(campaign), 'UTC')
                UNION ALL
                SELECT recipient FROM events WHERE {asked_not} AND ts >= oldest
            )
        GROUP BY campaign, send, recipient, sign
    ) AS m
    GROUP BY campaign, recipient, sign
) AS r
GROUP BY campaign
