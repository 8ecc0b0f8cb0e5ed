-- name: state
SELECT (SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM holdfast.numbers), greatest(
    (SELECT max(span_max) FROM holdfast.processes),
    (SELECT value::bigint FROM holdfast.meta WHERE key = 'span_max'), 0
), (SELECT value FROM holdfast.meta WHERE key = 'rollbacks')

-- name: others
SELECT count(*) FROM holdfast.processes
WHERE process <> $1 AND seen_at > holdfast.lease_clock() - holdfast.away_seconds_1()

-- name: set_number
SELECT setval('holdfast.numbers', $1)

-- name: finished
DELETE FROM holdfast.meta WHERE key = $1
