-- The figures of some campaigns, from all their rows.
SELECT campaign, sumForEach({figures}) AS figures
FROM
(
    SELECT campaign, recipient, {reader}
    FROM
    (
        SELECT
            campaign, send, recipient,
            recipient GLOBAL IN (
                SELECT recipient FROM events WHERE {asked_not} GROUP BY recipient HAVING {stays_out})
                AS opted_out,
            {heard}
        FROM events
        WHERE campaign IN {campaigns:Array(String)}
        GROUP BY campaign, send, recipient
    ) AS m
    GROUP BY campaign, recipient
) AS r
GROUP BY campaign
