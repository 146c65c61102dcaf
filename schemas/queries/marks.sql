-- The number and the marks of all rows of some campaigns, sums that the store keeps, and of the opt-outs.
SELECT
    campaign,
    count() + (SELECT count() FROM events WHERE {asked_not}) AS events,
    sum(mark) + (SELECT sum(mark) FROM events WHERE {asked_not}) AS marks
FROM events
WHERE campaign IN {campaigns:Array(String)}
GROUP BY campaign
