-- Campaigns, the one with the most opens first.
SELECT campaign
FROM
(
    SELECT campaign, kind, class, count() AS events FROM events
    GROUP BY campaign, kind, class
)
WHERE campaign != ''
GROUP BY campaign
ORDER BY
    sumIf(events, kind = 'open' AND class IN ('human', 'proxy')) DESC,
    sumIf(events, kind = 'sent') DESC, campaign
LIMIT {limit:UInt64}
