-- The tallies of some campaigns: when each was made, the number and the marks of the rows before, and
-- what they come to.
SELECT campaign, toUnixTimestamp(until) AS until, events, marks, figures
FROM tallies FINAL
WHERE campaign IN {campaigns:Array(String)}
