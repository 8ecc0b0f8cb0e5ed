-- What an endpoint has to be sent, without its bodies; and what is being sent to it.
CREATE INDEX deliveries_pending ON holdfast.deliveries (endpoint_id, next_attempt_at, id, locked_until)
WHERE status = 'pending';
CREATE INDEX deliveries_taken ON holdfast.deliveries (endpoint_id, locked_until) WHERE locked_until > 0;
CREATE INDEX deliveries_of_endpoint ON holdfast.deliveries (endpoint_id, id);
