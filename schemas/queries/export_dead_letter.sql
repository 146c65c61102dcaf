-- Lines that are no event and name a recipient, until they expire; see `heliograph export --help`.
SELECT topic, partition, offset, line, journal, seq, reason, raw, at
FROM dead_letter FINAL
WHERE match(concat(raw, ' ', reason), {pattern:String})
ORDER BY at, topic, partition, offset, line
