-- The number and the marks of all rows of some campaigns, sums that the store keeps; and, without a
-- campaign, of the opt-outs.
SELECT campaign, count() AS events, sum(mark) AS marks
FROM events
WHERE campaign IN {campaigns:Array(String)} OR {asked_not}
GROUP BY campaign
