"""The APIs: each translates its wire format to and from `holdfast.runs`. What they share is in `http`."""
