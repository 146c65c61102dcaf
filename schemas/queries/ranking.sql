-- Campaigns, the one with the most opens first.
SELECT campaign
FROM
(
    SELECT campaign, kind, method, count() AS events FROM events
    GROUP BY campaign, kind, method
)
GROUP BY campaign
ORDER BY
    sumIf(events, kind = 'open' AND method = 'GET') DESC, sumIf(events, kind = 'sent') DESC, campaign
LIMIT {limit:UInt64}
