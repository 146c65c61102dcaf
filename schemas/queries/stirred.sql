-- What the recipients of some campaigns who stirred since their campaign's tally, of so long ago, add to
-- its figures: what all their rows say less what those from before say.
WITH
    name -> toDateTime(
        transform(name, {campaigns:Array(String)}, {untils:Array(UInt32)}, 0), 'UTC') AS counted
SELECT campaign, sumForEach(arrayMap(figure -> sign * toInt64(figure), {figures})) AS figures
FROM
(
    SELECT campaign, recipient, sign, {reader}
    FROM
    (
        SELECT campaign, send, recipient, sign, {mails}
        FROM events
        ARRAY JOIN [toInt64(1), toInt64(-1)] AS sign
        WHERE campaign IN {campaigns:Array(String)} AND (sign = 1 OR ts < counted(campaign))
            AND recipient GLOBAL IN
            (
                SELECT recipient
                FROM events
                WHERE campaign IN {campaigns:Array(String)} AND ts >= counted(campaign)
                    AND ts >= toDateTime(arrayMin({untils:Array(UInt32)}), 'UTC')
            )
        GROUP BY campaign, send, recipient, sign
    ) AS m
    GROUP BY campaign, recipient, sign
) AS r
GROUP BY campaign
