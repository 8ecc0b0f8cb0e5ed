"""The APIs: routes and a projection each, over the one service in `holdfast.runs`."""
